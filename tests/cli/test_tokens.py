from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
from click.testing import CliRunner

from tests.support.case import SynchronousTestCase
from tests.support.daemon import free_port
from tests.support.tokens import Issuer
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.minting import rsa_pair
from voiceingest.cli.tokens import parse_claims
from voiceingest.cli.tree import root

from .program import ProgramCase, coroutine

PAIR = rsa_pair(2048)
OTHER = rsa_pair(2048)


class TokenCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = self.mktemp_path()
        folder.mkdir()
        self.private, self.public, self.other = (
            folder / name for name in ("private.pem", "public.pem", "other.pem")
        )
        self.private.write_bytes(PAIR.private_pem)
        self.public.write_bytes(PAIR.public_pem)
        self.other.write_bytes(OTHER.public_pem)
        self.folder = folder

    def run_it(self, *arguments: str | Path, stdin: str | None = None, **environ: str) -> Any:
        clean = {"JWT_PUBLIC_KEY": "", "JWT_PUBLIC_KEY_FILE": "", "JWT_JWKS_URL": "", **environ}
        return CliRunner(env=clean).invoke(root, ["token", *map(str, arguments)], input=stdin)

    def minted(self, *arguments: str) -> str:
        result = self.run_it("mint", "--key", self.private, "--tenant", "acme", *arguments)
        self.assertEqual(result.exit_code, 0, result.output)
        return str(result.stdout).strip()


class MintTests(TokenCase):
    def test_the_token_and_nothing_else(self) -> None:
        result = self.run_it("mint", "--key", self.private, "--tenant", "acme")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"\A[\w-]+\.[\w-]+\.[\w-]+\n\Z")

    def test_options_become_claims(self) -> None:
        options = "--interaction i --sub s --issuer iss --lifetime 15m --kid k --claim role=agent --claim n=7"
        token = self.minted(*options.split())
        claims = jwt.decode(token, PAIR.public_pem, ["RS256"], options={"verify_aud": False})
        self.assertEqual(claims["exp"] - claims["iat"], 900)
        named = {name: claims[name] for name in ("tenant_id", "interaction_id", "sub", "iss", "role", "n")}
        self.assertEqual(
            named,
            {"tenant_id": "acme", "interaction_id": "i", "sub": "s", "iss": "iss", "role": "agent", "n": 7},
        )
        self.assertEqual(jwt.get_unverified_header(token)["kid"], "k")

    def test_json(self) -> None:
        result = self.run_it("mint", "--key", self.private, "--tenant", "acme", "--json")
        self.assertEqual(set(json.loads(result.stdout)), {"token", "claims"})

    def test_keys_that_cannot_sign(self) -> None:
        for path, words in (
            (self.public, "public key"),
            (self.folder / "missing.pem", "No such file"),
            ("/dev/zero", "not a PEM private key"),
        ):
            result = self.run_it("mint", "--key", path, "--tenant", "acme")
            self.assertEqual(result.exit_code, 2)
            self.assertIn(words, result.stderr)
            self.assertEqual(len(result.stderr.splitlines()[0].split("\n")), 1)

    def test_claims(self) -> None:
        self.assertEqual(
            parse_claims(["a=1", "b=text", 'c=["x"]', "d=x=y", "e="]),
            {"a": 1, "b": "text", "c": ["x"], "d": "x=y", "e": ""},
        )
        for bad in ("a", "=1", "exp=5", "iat=5"):
            with self.assertRaises(UsageFailed):
                parse_claims([bad])


class CheckTests(TokenCase):
    def test_valid(self) -> None:
        result = self.run_it("check", self.minted(), "--key", self.public)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("valid\n", result.stdout)
        self.assertIn('tenant_id: "acme"', result.stdout)
        self.assertRegex(result.stdout, r"expires: +in 59 min 5\d s")

    def test_from_standard_input(self) -> None:
        result = self.run_it("check", "-", "--key", self.public, stdin=self.minted() + "\n")
        self.assertEqual(result.exit_code, 0, result.output)

    def test_invalid_says_why(self) -> None:
        result = self.run_it("check", self.minted(), "--key", self.other)
        self.assertEqual(result.exit_code, 1)
        self.assertIn("(bad_signature)", result.stdout)
        self.assertNotIn("Traceback", result.output)

    def test_the_token_itself_is_not_repeated(self) -> None:
        token = self.minted()
        for key in (self.public, self.other):
            output = self.run_it("check", token, "--key", key).output
            self.assertNotIn(token.split(".")[2], output)
            self.assertNotIn(token.split(".")[1], output)

    def test_json(self) -> None:
        result = self.run_it("check", self.minted("--lifetime", "1s"), "--key", self.other, "--json")
        document = json.loads(result.stdout)
        self.assertEqual((document["valid"], document["reason"]), (False, "bad_signature"))
        self.assertIn("invalid", result.stderr)

    def test_with_the_settings_of_the_daemon(self) -> None:
        token = self.minted("--issuer", "me")
        by_environment = self.run_it("check", token, JWT_PUBLIC_KEY_FILE=str(self.public), JWT_ISSUER="me")
        self.assertEqual(by_environment.exit_code, 0, by_environment.output)
        config = self.folder / "voiceingest.toml"
        config.write_text(f'jwt_public_key_file = "{self.public}"\njwt_issuer = "somebody else"\n')
        by_file = self.run_it("check", token, "--config", config)
        self.assertEqual(by_file.exit_code, 1)
        self.assertIn("(issuer)", by_file.stdout)

    def test_without_any_key(self) -> None:
        result = self.run_it("check", self.minted())
        self.assertEqual(result.exit_code, 1)
        self.assertIn("no key", result.stdout)

    def test_a_named_key_is_enough_whatever_the_environment_says(self) -> None:
        result = self.run_it("check", self.minted(), "--key", self.public, PORT="nonsense")
        self.assertEqual(result.exit_code, 0, result.output)

    def test_what_cannot_be_used(self) -> None:
        for arguments, words in (
            (("--key", self.private), "private"),
            (("--key", self.folder / "missing.pem"), "cannot be read"),
            (("--key", self.public, "--jwks-url", "https://x"), "exclude each other"),
            (("--jwks-url", "http://example.com/jwks"), "https"),
            (("--config", self.folder / "missing.toml"), "no such file"),
        ):
            result = self.run_it("check", "a.b.c", *arguments)
            self.assertEqual(result.exit_code, 2, result.output)
            self.assertIn(words, result.stderr)

    def test_control_characters_in_claims_are_not_printed(self) -> None:
        token = jwt.encode({"tenant_id": "a\x1b[2J", "\x1b[31mname": 1}, PAIR.private_pem, "RS256")
        self.assertNotIn("\x1b", self.run_it("check", token, "--key", self.public).output)


class JwksTests(ProgramCase):
    """Fetching runs the reactor, and so in a process of its own."""

    async def serve(self, body: bytes) -> str:
        from twisted.internet import reactor
        from twisted.internet.endpoints import serverFromString
        from twisted.web.resource import Resource
        from twisted.web.server import Site
        from twisted.web.static import Data

        root = Resource()
        root.putChild(b"jwks.json", Data(body, "application/json"))
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Site(root))
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}"

    @coroutine
    async def test_a_key_set_is_fetched(self: Any) -> None:
        issuer = Issuer("key-1")
        url = await self.serve(issuer.jwks())
        other = Issuer("key-2")
        valid, unknown = (
            self.start("token", "check", token, "--jwks-url", f"{url}/jwks.json", "--json")
            for token in (issuer.token(), other.token())
        )
        self.assertEqual((await valid.ended), 0, valid.out + valid.err)
        self.assertTrue(valid.documents[0]["valid"])
        self.assertEqual(((await unknown.ended), unknown.documents[0]["reason"]), (1, "unknown_key"))

    @coroutine
    async def test_a_key_set_that_cannot_be_had(self: Any) -> None:
        url = await self.serve(b"no key set")
        for address, code, words in (
            (f"{url}/jwks.json", 2, "not JSON"),
            (f"{url}/other.json", 3, "http_status"),
            (f"http://127.0.0.1:{free_port()}/", 3, "connect"),
        ):
            program = await self.run_it("token", "check", "a.b.c", "--jwks-url", address)
            self.assertEqual(program.code, code, program.err)
            self.assertIn(words, program.err)
