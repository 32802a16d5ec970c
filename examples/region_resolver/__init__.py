"""Host -> tenant -> home region, twice: once on a plain client, once on `resilient_cache`, through one incident.

Run it with `python -m examples.region_resolver`; `README.md` beside this file says how to read what it prints.
"""
