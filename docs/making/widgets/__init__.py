"""What a chapter asks for by `<!-- widget: NAME -->`: name -> a function that makes it."""

from __future__ import annotations

import re
from collections.abc import Callable

from making.widgets import columns, momentum, order, pool
from making.widgets.tape import Tape
from making.widgets.widget import Widget

REQUEST = re.compile(r"<!-- widget: (\w+) -->")
WIDGETS: dict[str, Callable[[], Widget | Tape]] = {
    "tape": Tape,
    "columns": columns.make,
    "pool": pool.make,
    "order": order.make,
    "momentum": momentum.make,
}
