"""The Studio: Darkroom's page, at `/studio` of every gateway, and a client of the HTTP API alone.

HTML is made here with htpy and loaded piece by piece by htmx; there is no inline script or style, nothing comes from
elsewhere, and nothing is kept between two requests, so any gateway serves any of them. What a page shows it asks of the
API (`api.py`) in the name of the session in its cookie: what any client may not do, the Studio cannot either. What the
API lacks for a screen is added to the API.

How to add a screen: one file in `routes/`, with a `SCREEN = Screen(title, path, router)`, on the list `SCREENS` in
`routes/__init__.py`, which mounts it at `/studio` + path and puts it in the navigation (for a scope, with `scope=`).

    @router.get("")
    async def gallery(visit: VisitOf) -> Response:
        found = await visit.api.get("/v1/assets", limit=50)        # raises ApiProblem: shown as a banner by itself
        return visit.page("Gallery", [card(...) for each in found["items"]])     # the whole page, under its heading

- Handlers are `async def`, wait for `visit.api` alone (get, post, put, delete), and do no other work that takes time.
- `visit.page(title, *content)` is a page; `visit.part(*content)` what htmx puts into one; `visit.go(path, said="…")`
  leads on after a form and says so in a toast.
- Forms: `visit.form(action, *fields, submit="Order")` has the CSRF token in it, `FormOf` is what was filled in. htmx
  sends the token with everything by itself. A request that changes something is a POST, with a `VisitOf`.
- `parts.py` is what pages are made of: card, table, empty, badge, said (user's text), money, moment, button, field…
- News: an element with `data-news="job_…"` (or `"files"`, `"any"`), `hx-get` and `hx-trigger="news"` is fetched anew
  when the stream tells of that job (of what may be new files, of anything). A list with
  `data-newcomers="/studio/…/"` has the rows of new jobs put on top, each fetched from there + its id (204: no row
  here). Nothing polls. An own script goes into `static/` as a file.
- `local(url)` makes of a file's link one of this page's own host, which is all that the CSP lets a browser load.
"""
