"""Sources of settings: order, unknown names, error texts."""

from pathlib import Path

import pytest

from restated.daemon import config
from restated.daemon.config import ConfigError, HelpRequested, Setting
from restated.daemon.values import Address


def test_without_any_source_every_setting_has_its_default() -> None:
    """design.md 3.14: a fresh machine needs no file."""
    settings = config.load([], {})
    assert [settings[setting] for setting in config.SETTINGS] == [
        setting.default for setting in config.SETTINGS
    ]


def test_a_flag_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    """Precedence: flag, our variable, the reference's variable, file, default."""
    file = tmp_path / "restated.toml"
    file.write_text('ingress.bind = "127.0.0.1:1"\nretry.factor = 3\nlog.filter = "error"\n')
    environment = {
        "RESTATE_INGRESS__BIND_ADDRESS": "127.0.0.1:2",
        "RESTATED_INGRESS_BIND": "127.0.0.1:3",
        "RESTATE_LOG_FILTER": "debug",
    }
    settings = config.load(["--config", str(file), "--ingress", "127.0.0.1:4"], environment)
    assert settings[config.INGRESS_BIND] == Address("127.0.0.1", 4)
    assert settings[config.LOG_FILTER] == "debug"
    assert settings[config.RETRY_FACTOR] == 3.0


def test_our_variable_goes_before_the_one_of_the_reference() -> None:
    """Whoever writes ours means us."""
    environment = {"RESTATE_BASE_DIR": "/theirs", "RESTATED_BASE_DIR": "/ours"}
    assert config.load([], environment)[config.BASE_DIR] == Path("/ours")


@pytest.mark.parametrize("setting", config.SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_refuses_nonsense_by_name_source_and_form(setting: Setting[object]) -> None:
    """An error text says what, where and what would be accepted."""
    with pytest.raises(ConfigError) as refused:
        config.load([], {setting.variable: "\0"})
    assert setting.name in str(refused.value)
    assert setting.variable in str(refused.value)
    assert setting.kind.form in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "environment", "file", "words"),
    [
        (["--bogus"], {}, "", ["--bogus", "--ingress"]),
        (["--ingress"], {}, "", ["--ingress", "needs a value"]),
        (["--ingress", "8080"], {}, "", ["ingress.bind", "flag --ingress", "127.0.0.1:8080"]),
        ([], {"RESTATED_INGRES_BIND": "x"}, "", ["RESTATED_INGRES_BIND", "unknown"]),
        ([], {}, "ingres.bind = 1", ["ingres.bind", "unknown", "restated.toml"]),
        ([], {}, "[ingress.bind]\nport = 1", ["ingress.bind", "restated.toml"]),
        ([], {}, "[retry]\nfactor = 0.5", ["retry.factor", "0.5", "from 1 to"]),
        ([], {}, "= broken", ["restated.toml", "not TOML"]),
        (["--config", "/nonexistent/x"], {}, None, ["/nonexistent/x", "cannot read"]),
        (["--admin", "none"], {"RESTATED_ADMIN_SOCKET": "none"}, "", ["admin.bind", "none"]),
        (["--admin", "0.0.0.0:9070"], {}, "", ["admin.bind", "admin.allow_remote"]),
        (["--admin", "127.evil.example:9070"], {}, "", ["admin.allow_remote"]),
    ],
)
def test_an_error_names_the_setting_and_its_place_in_one_line(
    tmp_path: Path,
    arguments: list[str],
    environment: dict[str, str],
    file: str | None,
    words: list[str],
) -> None:
    """style.md 7: what, the offending value, what to do next; no traceback."""
    path = tmp_path / "restated.toml"
    path.write_text(file or "")
    arguments = arguments if file is None else ["--config", str(path), *arguments]
    with pytest.raises(ConfigError) as refused:
        config.load(arguments, environment)
    text = str(refused.value)
    assert [word for word in words if word not in text] == []
    assert "\n" not in text


def test_an_admin_listener_may_be_remote_when_the_operator_says_so() -> None:
    """Z1."""
    settings = config.load(["--admin", "0.0.0.0:1"], {"RESTATED_ADMIN_ALLOW_REMOTE": "true"})
    assert settings[config.ADMIN_BIND] == Address("0.0.0.0", 1)


def test_unknown_variables_of_the_reference_are_ignored_and_told() -> None:
    """Its containers carry dozens that mean nothing here."""
    environment = {
        "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "1",
        "RESTATED_ADMIN": "unix:/x",
        "RESTATED_CMD": "restated serve",
        "HOME": "/",
    }
    assert config.load([], environment).ignored == ("RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE",)


def test_help_is_not_an_error() -> None:
    """`restated serve --help` ends with 0."""
    with pytest.raises(HelpRequested):
        config.load(["--help"], {})


@pytest.mark.parametrize(
    ("arguments", "environment", "path"),
    [
        ([], {}, "/state/run/admin.sock"),
        ([], {"RUNTIME_DIRECTORY": "/run/restated:/run/other"}, "/run/restated/admin.sock"),
        (["--admin-socket", "/a.sock"], {"RUNTIME_DIRECTORY": "/run/restated"}, "/a.sock"),
        (["--admin-socket", "a.sock"], {}, "/state/a.sock"),
    ],
)
def test_the_admin_socket_is_in_the_runtime_directory_if_there_is_one(
    arguments: list[str], environment: dict[str, str], path: str
) -> None:
    """design.md 3.10, files."""
    settings = config.load(["--base-dir", "/state", *arguments], {})
    assert config.admin_socket(settings, environment) == Path(path)


def test_names_variables_and_flags_are_unique() -> None:
    """A second row of the same name would silently win."""
    names = [setting.name for setting in config.SETTINGS]
    variables = [setting.variable for setting in config.SETTINGS]
    references = [name for setting in config.SETTINGS for name in setting.references]
    assert len({*names}) == len(names)
    assert len({*variables}) == len(variables)
    assert len({*references}) == len(references)
