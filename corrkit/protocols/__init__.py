"""Published protocols as data: `TASK/NAME.toml`, read into one frozen dataclass."""

from corrkit.protocols.reader import field_names, load_protocol, override, parse_protocol, protocol_names
from corrkit.protocols.schema import Protocol

__all__ = ["Protocol", "field_names", "load_protocol", "override", "parse_protocol", "protocol_names"]
