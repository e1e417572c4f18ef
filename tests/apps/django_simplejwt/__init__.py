"""A small order desk on Django, DRF and simplejwt, as such apps are: it knows of no migration."""
