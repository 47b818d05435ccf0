"""Where settings come from, and that every problem is one line that names its key."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.config import Settings
from voiceingest.config.load import SECRET_FILE_MAX_BYTES, SETTINGS_FILE_MAX_BYTES, load_settings
from voiceingest.errors import SettingsError

CANARY = "canary-7f3a"


class Case(SynchronousTestCase):
    """With a directory of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def file(self, text: str | bytes, name: str = "voiceingest.toml") -> Path:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def problems(
        self,
        toml: str | bytes | None = None,
        environ: dict[str, str] | None = None,
        flags: dict[str, object] | None = None,
    ) -> list[str]:
        path = self.file(toml) if toml is not None else None
        with self.assertRaises(SettingsError) as caught:
            load_settings(flags or {}, environ or {}, path)
        for problem in caught.exception.problems:
            self.assertTrue(problem.isprintable(), problem)
            self.assertNotIn(CANARY, problem)
        return [problem.replace(f"{path}", "FILE") for problem in caught.exception.problems]


class Precedence(Case):
    """Flag before environment before file before default."""

    def test_all_defaults(self) -> None:
        self.assertEqual(load_settings({}, {}, None), Settings())

    def test_each_place_beats_the_next(self) -> None:
        path = self.file("port = 1001\nack_interval = 11\nmax_frame_bytes = 12")
        environ = {"PORT": "1002", "ACK_INTERVAL": "22"}
        found = load_settings({"port": 1003, "ack_interval": None}, environ, path)
        self.assertEqual((found.port, found.ack_interval, found.max_frame_bytes), (1003, 22, 12))

    def test_a_value_that_is_beaten_need_not_be_right(self) -> None:
        self.assertEqual(load_settings({"port": "80"}, {"PORT": "nonsense"}, None).port, 80)

    def test_an_empty_variable_is_not_set(self) -> None:
        self.assertEqual(load_settings({}, {"PORT": "", "ADMIN": " "}, None), Settings())

    def test_an_empty_flag_is_a_value(self) -> None:
        self.assertEqual(load_settings({"admin": ""}, {}, None).admin, "")

    def test_variables_that_are_no_settings_are_left_alone(self) -> None:
        self.assertEqual(load_settings({}, {"PATH": "/bin", "port": "1"}, None), Settings())

    def test_lists(self) -> None:
        environ = {
            "ALLOWED_ORIGINS": "https://a.example, https://b.example,",
            "JWT_ALGORITHMS": "RS256,ES256",
        }
        found = load_settings({"listen": ("tcp:1", "tcp:2")}, environ, self.file('trusted_proxies = ["::1"]'))
        self.assertEqual(found.allowed_origins, ("https://a.example", "https://b.example"))
        self.assertEqual(found.jwt_algorithms, ("RS256", "ES256"))
        self.assertEqual(found.listen, ("tcp:1", "tcp:2"))
        self.assertEqual(found.trusted_proxies, ("::1",))


class Problems(Case):
    """One line each, all at once."""

    def test_all_at_once_in_the_order_of_the_settings(self) -> None:
        found = self.problems(
            'port = "abc"\nmax_conections = 3\nlog_level = "loud"\nredis_channel = "{x}"\n'
            f'publish_url = "http://u:{CANARY}@x"\nssl_key_path = "/x"\njwt_jwks_url = "https://x/"\n',
            environ={"JWT_LEEWAY_S": "-1", "JWT_PUBLIC_KEY": CANARY},
            flags={"ack_interval": "1.5"},
        )
        self.assertEqual(
            [problem.partition(":")[0] for problem in found],
            [
                "max_conections",
                "port",
                "ssl_cert_path",
                "jwt_jwks_url",
                "jwt_leeway_s",
                "ack_interval",
                "publish_url",
                "redis_channel",
                "log_level",
            ],
        )

    def test_every_line_says_what_and_where(self) -> None:
        table: list[tuple[str | None, dict[str, str], dict[str, object], str]] = [
            ('port = "abc"', {}, {}, "port: must be a number, without quotes (file FILE)"),
            ('port = "8443"', {}, {}, "port: must be a number, without quotes (file FILE)"),
            ("port = 1.5", {}, {}, "port: must be a whole number (file FILE)"),
            ("port = true", {}, {}, "port: must be a number, without quotes (file FILE)"),
            ("port = 0", {}, {}, "port: must be greater than or equal to 1 (file FILE)"),
            ("admin = false", {}, {}, "admin: must be text (file FILE)"),
            ("listen = true", {}, {}, "listen: must be a list of texts (file FILE)"),
            ('listen = "tcp:1"', {}, {}, "listen: must be a list of texts (file FILE)"),
            ("listen = [1]", {}, {}, "listen[0]: must be text (file FILE)"),
            ("jwt_algorithms = []", {}, {}, "jwt_algorithms: must not be empty (file FILE)"),
            ("jwt_leeway_s = nan", {}, {}, "jwt_leeway_s: must be less than or equal to 300 (file FILE)"),
            ("ssl_key_path = 3\nssl_cert_path = 'x'", {}, {}, "ssl_key_path: must be a path (file FILE)"),
            ("redis_channel = 3", {}, {}, "redis_channel: must be text (file FILE)"),
            ('redis_channel = ""', {}, {}, "redis_channel: must not be empty (file FILE)"),
            ("PORT = 1", {}, {}, "PORT: there is no such setting; did you mean port? (file FILE)"),
            (
                "max-connections = 1",
                {},
                {},
                "max-connections: there is no such setting; did you mean max_connections? (file FILE)",
            ),
            ("[tables]\na = 1", {}, {}, "tables: there is no such setting (file FILE)"),
            ('"a\\nb\\u001b" = 1', {}, {}, "a\\nb\\x1b: there is no such setting (file FILE)"),
            (None, {"PORT": "abc"}, {}, "port: must be a whole number (environment PORT)"),
            (
                None,
                {"JWT_LEEWAY_S": "inf"},
                {},
                "jwt_leeway_s: must be less than or equal to 300 (environment JWT_LEEWAY_S)",
            ),
            (None, {"JWT_LEEWAY_S": "soon"}, {}, "jwt_leeway_s: must be a number (environment JWT_LEEWAY_S)"),
            (
                None,
                {"REDIS_URL": f"redis://[u:{CANARY}"},
                {},
                "redis_url: is not a URL (environment REDIS_URL)",
            ),
            (None, {"REDIS_URL": CANARY}, {}, "redis_url: is not a URL (environment REDIS_URL)"),
            (None, {}, {"port": "99999"}, "port: must be less than or equal to 65535 (flag port)"),
            (
                None,
                {},
                {"ack_interval": "0"},
                "ack_interval: must be greater than or equal to 1 (flag --ack-interval)",
            ),
            (None, {}, {"listen": 3}, "listen: must be a list of texts (flag --port)"),
            (None, {}, {"prot": "1"}, "prot: there is no such setting; did you mean port? (flag prot)"),
            (
                None,
                {"SSL_KEY_PATH": "/x"},
                {},
                "ssl_cert_path: ssl_key_path and ssl_cert_path go together (environment SSL_KEY_PATH)",
            ),
        ]
        for toml, environ, flags, expected in table:
            self.assertEqual(self.problems(toml, environ, flags), [expected])

    def test_an_algorithm_that_is_not_accepted(self) -> None:
        found = self.problems(None, {"JWT_ALGORITHMS": "RS256,HS256,none"})
        self.assertEqual(
            [line.partition(":")[0] for line in found], ["jwt_algorithms[1]", "jwt_algorithms[2]"]
        )

    def test_settings_that_disagree_are_not_blamed_for_one_that_is_wrong_by_itself(self) -> None:
        found = self.problems("ssl_key_path = 3")
        self.assertEqual(found, ["ssl_key_path: must be a path (file FILE)"])

    @given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), st.text(max_size=8), max_size=4))
    def test_any_environment_loads_or_is_named(self, environ: dict[str, str]) -> None:
        try:
            load_settings({}, {name.upper(): value for name, value in environ.items()}, None)
        except SettingsError as error:
            for problem in error.problems:
                self.assertTrue(problem.isprintable())
                self.assertIn(problem.partition(":")[0].partition("[")[0], Settings.model_fields)


class Files(Case):
    """The settings file itself."""

    def test_syntax(self) -> None:
        (problem,) = self.problems("port = 1\nlisten = [\n")
        self.assertTrue(problem.startswith("FILE: not TOML: "), problem)
        self.assertIn("line 3", self.problems("port = 1\n\n= 3\n")[0])

    def test_not_utf_8(self) -> None:
        self.assertEqual(self.problems(b"port = '\xff'"), ["FILE: not UTF-8"])

    def test_too_deep(self) -> None:
        (problem,) = self.problems("listen = " + "[" * 20_000)
        self.assertTrue(problem.startswith("FILE: not TOML: "), problem)

    def test_too_large(self) -> None:
        found = self.problems("#" * (SETTINGS_FILE_MAX_BYTES + 1))
        self.assertEqual(found, [f"FILE: larger than {SETTINGS_FILE_MAX_BYTES} bytes"])

    def test_missing(self) -> None:
        path = self.folder / "nowhere.toml"
        with self.assertRaises(SettingsError) as caught:
            load_settings({"port": 0}, {}, path)
        self.assertEqual(caught.exception.problems[0], f"{path}: there is no such file")
        self.assertEqual(len(caught.exception.problems), 2)


class Secrets(Case):
    """The ``*_FILE`` twins."""

    # What some cannot be given without.
    BESIDE: Final = {"exotel_ws_password": {"EXOTEL_WS_USER": "u"}}

    def test_the_contents_without_blank_ends(self) -> None:
        path = self.file(f"\n {CANARY} \n", "secret")
        found = load_settings({}, {"ADMIN_TOKEN_FILE": str(path)}, None)
        self.assertEqual(found.admin_token and found.admin_token.get_secret_value(), CANARY)
        self.assertEqual(found.admin_token_file, path)

    def test_every_secret_has_a_twin(self) -> None:
        # A secret of the house is long, a URL is one.
        redis = self.file("redis://a-name-of-thirty-two-characters", "secret")
        database = self.file("postgresql://a-name-of-thirty-two-characters/db", "database")
        for name, field in Settings.model_fields.items():
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("secret"):
                path = database if name == "database_url" else redis
                found = load_settings({f"{name}_file": str(path)}, self.BESIDE.get(name, {}), None)
                self.assertEqual(getattr(found, name).get_secret_value(), path.read_text())

    def test_the_contents_are_checked_like_the_value(self) -> None:
        path = self.file(f"ftp://{CANARY}", "secret")
        (problem,) = self.problems(None, {"REDIS_URL_FILE": str(path)})
        self.assertTrue(problem.startswith("publish_url: the scheme of the bus is one of"), problem)

    def test_both_is_a_problem(self) -> None:
        path = self.file(CANARY, "secret")
        found = self.problems(f'admin_token_file = "{path}"', {"ADMIN_TOKEN": CANARY})
        self.assertEqual(
            found, ["admin_token_file: admin_token is given too (file FILE and environment ADMIN_TOKEN)"]
        )

    def test_files_that_cannot_be_used(self) -> None:
        table = [
            (self.folder / "nowhere", "No such file or directory"),
            (self.folder, "Is a directory"),
            (self.file(" \n", "empty"), "empty"),
            (
                self.file("x" * (SECRET_FILE_MAX_BYTES + 1), "large"),
                f"larger than {SECRET_FILE_MAX_BYTES} bytes",
            ),
            (self.file(b"\xff\xfe", "binary"), "not UTF-8"),
        ]
        for path, reason in table:
            found = self.problems(None, {"ADMIN_TOKEN_FILE": str(path)})
            self.assertEqual(found, [f"admin_token_file: {path}: {reason} (environment ADMIN_TOKEN_FILE)"])

    def test_a_path_that_is_none(self) -> None:
        self.assertEqual(
            self.problems("admin_token_file = 3"), ["admin_token_file: must be a path (file FILE)"]
        )
