"""Templates are compiled when a page first needs them, so that a mistake in one would show late: here all are compiled."""

import pytest

from reconciler.server.dashboard.environment import environment

ENVIRONMENT = environment()


@pytest.mark.parametrize("name", ENVIRONMENT.list_templates(["html"]))
def test_a_template_compiles_and_everything_that_it_takes_from_others_is_there(name: str) -> None:
    ENVIRONMENT.get_template(name)
    from jinja2 import nodes

    source, _, _ = ENVIRONMENT.loader.get_source(ENVIRONMENT, name)  # type: ignore[union-attr]
    others = {
        node.template.value for node in ENVIRONMENT.parse(source).find_all((nodes.Extends, nodes.FromImport, nodes.Include))
    }
    assert others <= set(ENVIRONMENT.list_templates())
