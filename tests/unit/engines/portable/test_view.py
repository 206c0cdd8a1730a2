"""Views by name, as programs give them."""

import pytest

from windowsfilter.engines.portable.view import View
from windowsfilter.errors import UsageError


def test_a_view_is_found_by_its_name():
    assert View("layer") is View.LAYER
    assert View(View.VOLUME) is View.VOLUME


def test_another_name_is_the_callers_mistake():
    with pytest.raises(UsageError, match="no view 'files'; there are volume and layer"):
        View("files")
