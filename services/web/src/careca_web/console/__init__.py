"""The console: a page that runs in the browser.

Its sources are in services/web/console. `make console` builds them into the folder ``static``.
"""
