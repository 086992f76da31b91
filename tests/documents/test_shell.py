"""The scripts of the Command documents, really run with sh as SSM agents old and new run them."""

import hashlib
import json
import pathlib
import re
import subprocess
import tempfile
import tomllib
import unittest

from runbook import document

HOSTILE = ["$(touch MARK)", "`touch MARK`", '"; touch MARK; "', "'; touch MARK; '", "5m\ntouch MARK", "5m; touch MARK", "${IFS}", "--help", "٣m", "\u202e", "&& touch MARK", "| touch MARK", "\\", "{{ Wait }}"]


class Scripts(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory()
        self.addCleanup(self.home.cleanup)
        self.at = pathlib.Path(self.home.name)

    def program(self, name, body):
        path = self.at / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)

    def run_document(self, name, values, new_agent, programs="/usr/bin:/bin"):
        """`programs` is where the host has those that this test did not make; this machine may have a hostagent of its own."""
        content = document(name)
        values = {key: values.get(key, declared.get("default")) for key, declared in content["parameters"].items()}
        script = "\n".join(content["mainSteps"][0]["inputs"]["runCommand"])
        # Nothing of this machine is to be found or written.
        script = script.replace("/var/lib/hostagent", str(self.at / "state")).replace("/etc/hostagent", str(self.at / "etc"))
        script = script.replace("/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", programs)
        env = {"PATH": f"{self.at}/bin:{programs}"}
        if new_agent:
            env |= {f"SSM_{key}": value for key, value in values.items()}
        else:
            script = re.sub(r"\{\{ (\w+) \}\}", lambda found: values[found.group(1)], script)
        return subprocess.run(["/bin/sh", "-c", script], env=env, cwd=self.at, capture_output=True, text=True, timeout=60)

    def test_every_parameter_refuses_what_could_harm_an_old_agent(self):
        for name in ("HostAgent-Check", "HostAgent-Restart", "HostAgent-Install"):
            for key, declared in document(name)["parameters"].items():
                self.assertEqual(declared["interpolationType"], "ENV_VAR", f"{name} {key}")
                for value in HOSTILE:
                    if "allowedValues" in declared:
                        self.assertNotIn(value, declared["allowedValues"])
                    else:
                        self.assertIsNone(re.fullmatch(declared["allowedPattern"].strip("^$"), value, re.A), f"{name} {key} {value!r}")

    def test_in_the_environment_hostile_text_is_inert(self):
        self.program("hostagent", f'printf "%s\\n" "$@" >>{self.at}/arguments\nexit 2\n')
        for value in HOSTILE:
            for name, key in (("HostAgent-Check", "Require"), ("HostAgent-Check", "Strict"), ("HostAgent-Restart", "Wait"), ("HostAgent-Restart", "Repair"), ("HostAgent-Restart", "Lenient")):
                self.run_document(name, {key: value}, True)
                self.assertFalse((self.at / "MARK").exists(), f"{name} {key} {value!r}")
        self.assertIn("$(touch MARK)", (self.at / "arguments").read_text())

    def test_exit_codes(self):
        for code, loose, strict, restart in [(0, 0, 0, 0), (10, 0, 10, 10), (11, 0, 11, 11), (12, 0, 12, 12), (13, 0, 13, 13), (75, 0, 75, 75), (1, 1, 1, 1), (2, 2, 2, 2), (194, 1, 1, 1)]:
            self.program("hostagent", f"echo page\nexit {code}\n")
            for new_agent in (False, True):
                self.assertEqual(self.run_document("HostAgent-Check", {}, new_agent).returncode, loose)
                self.assertEqual(self.run_document("HostAgent-Check", {"Strict": "yes"}, new_agent).returncode, strict)
                self.assertEqual(self.run_document("HostAgent-Restart", {}, new_agent).returncode, restart)
                lenient = 0 if code in (11, 12, 75) else restart
                self.assertEqual(self.run_document("HostAgent-Restart", {"Lenient": "yes"}, new_agent).returncode, lenient)

    def test_parameters_become_options(self):
        self.program("hostagent", 'echo "$@"\n')
        for new_agent in (False, True):
            said = self.run_document("HostAgent-Restart", {"Repair": "yes", "DryRun": "yes", "Wait": "90s"}, new_agent).stdout
            self.assertEqual(said, "--format ssm restart --wait 90s --repair --dry-run\n")
            self.assertEqual(self.run_document("HostAgent-Check", {"Require": "images"}, new_agent).stdout, "--format ssm check --require images\n")

    def test_a_host_without_hostagent_says_so_first(self):
        for name in ("HostAgent-Check", "HostAgent-Restart"):
            done = self.run_document(name, {}, True, programs=f"{self.at}/none")
            first, second = done.stdout.splitlines()
            self.assertEqual((done.returncode, json.loads(second)["verdict"]), (127, "not-installed"))
            self.assertTrue(first.startswith("NOT INSTALLED: hostagent is not on this host; run the document HostAgent-Install"))

    def install(self, sha, new_agent, kind="deb", **more):
        return self.run_document("HostAgent-Install", {"PackageUrl": f"https://bucket.s3.eu-west-1.amazonaws.com/hostagent.{kind}?X-Amz-Signature=a%2F", "PackageSha256": sha} | more, new_agent)

    def package_managers(self, working):
        """Those of two hosts in one; of them only `working` succeed. Every call is noted, with its bound in seconds."""
        note = lambda words: f"echo {words} >>{self.at}/calls\n"
        self.program("timeout", '[ "$1" = -k ] && shift 2\nexport BOUND=$1; shift\nexec "$@"\n')
        self.program("curl", note("$BOUND curl") + 'while [ "$1" != --output ]; do shift; done\nprintf package >"$2"\n')
        for name in ("dpkg", "apt-get", "rpm", "dnf", "yum"):
            there = f"[ -e {self.at}/there ] || exit 1\necho 0.1.0-1\nexit\n"
            asked = f'if [ "$1" = -q ]; then\n{there}fi\n' if name == "rpm" else ""
            done = f"touch {self.at}/there\n" if name in working else "exit 1\n"
            self.program(name, asked + note(f"$BOUND {name}") + done)
        self.program("dpkg-query", f"[ ! -e {self.at}/there ] || echo installed 0.1.0-1\n")
        self.program("systemctl", note("$BOUND systemctl $1"))
        self.program("hostagent", "echo hostagent 0.1.0\n")
        for left in ("calls", "there", "state/package.sha256"):
            (self.at / left).unlink(missing_ok=True)

    def calls(self):
        return (self.at / "calls").read_text().split("\n")[:-1]

    def test_install_checks_the_hash_first_and_knows_what_it_installed(self):
        right = hashlib.sha256(b"package").hexdigest()
        serves = ["20 systemctl enable", "120 systemctl start"]
        for new_agent in (False, True):
            self.package_managers(["dpkg", "apt-get"])
            wrong = self.install("0" * 64, new_agent)
            self.assertEqual((wrong.returncode, self.calls()), (1, ["300 curl"]))
            self.assertIn("nothing was changed", wrong.stdout)
            done = self.install(right.upper(), new_agent)
            self.assertEqual((done.returncode, done.stdout.splitlines()[0]), (0, "INSTALLED: hostagent 0.1.0"), done.stderr)
            self.assertEqual(self.calls()[1:], ["300 curl", "150 dpkg", *serves])
            again = self.install(right, new_agent)
            self.assertEqual((again.returncode, again.stdout.splitlines()[0]), (0, "ALREADY INSTALLED: hostagent 0.1.0"))
            self.assertEqual(self.calls()[5:], serves)

    def test_install_asks_no_repository_unless_the_file_alone_is_not_enough(self):
        """And whatever is asked is bounded, all of it together by the time of the step."""
        right = hashlib.sha256(b"package").hexdigest()
        limit = int(document("HostAgent-Install")["mainSteps"][0]["inputs"]["timeoutSeconds"])
        for kind, working, expected in [
            ("deb", ["dpkg"], ["150 dpkg"]),
            ("deb", ["apt-get"], ["150 dpkg", "200 apt-get"]),
            ("rpm", ["rpm"], ["150 rpm"]),
            ("rpm", ["dnf", "yum"], ["150 rpm", "200 dnf"]),
            ("deb", [], ["150 dpkg", "200 apt-get"]),
        ]:
            with self.subTest(kind=kind, working=working):
                self.package_managers(working)
                done = self.install(right, True, kind)
                calls = self.calls()
                installs = [call for call in calls if not call.endswith(("curl", "enable", "start"))]
                self.assertEqual(installs, expected)
                self.assertLess(sum(int(call.split()[0]) for call in calls), limit)
                first, second = done.stdout.splitlines()
                if working:
                    self.assertEqual((done.returncode, first), (0, "INSTALLED: hostagent 0.1.0"), done.stderr)
                else:
                    self.assertEqual((done.returncode, json.loads(second)["verdict"]), (1, "install-failed"))
                    self.assertTrue(first.startswith("NOT INSTALLED: the package manager did not install the package"), first)

    def test_what_a_host_does_by_itself_stands_before_its_service_starts(self):
        chosen = self.at / "etc/config.d/90-on-ready.toml"
        self.program("curl", 'while [ "$1" != --output ]; do shift; done\nprintf package >"$2"\n')
        # The package starts the service.
        for manager in ("apt-get", "dpkg"):
            self.program(manager, f"cat {chosen} >{self.at}/started 2>&1\ntouch {self.at}/there\n")
        self.program("dpkg-query", f"[ ! -e {self.at}/there ] || echo installed 0.1.0-1\n")
        self.program("systemctl", f'echo "$1" >>{self.at}/calls\n')
        self.program("hostagent", "echo hostagent 0.1.0\n")
        sha = hashlib.sha256(b"package").hexdigest()
        calls = lambda: (self.at / "calls").read_text().split()
        for new_agent in (False, True):
            for left in ("there", "state/package.sha256", "etc/config.d/90-on-ready.toml", "calls"):
                (self.at / left).unlink(missing_ok=True)
            wrong = self.install("0" * 64, new_agent, OnReady="report")
            self.assertEqual((wrong.returncode, chosen.exists()), (1, False))
            done = self.install(sha, new_agent, OnReady="report")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            report = (self.at / "started").read_text()
            self.assertEqual(tomllib.loads(report), {"watch": {"on_ready": "report"}})
            self.assertEqual(calls(), ["enable", "start"])
            # The same again changes nothing, another is taken up by the service that runs, and nothing leaves it as it is.
            self.install(sha, new_agent, OnReady="report")
            self.assertEqual(calls()[2:], ["enable", "start"])
            self.install(sha, new_agent, OnReady="restart")
            self.assertEqual(calls()[4:], ["enable", "start", "reload"])
            self.install(sha, new_agent)
            self.assertEqual(calls()[7:], ["enable", "start"])
            self.assertEqual(tomllib.loads(chosen.read_text()), {"watch": {"on_ready": "restart"}})
        for value in HOSTILE:
            self.install(sha, True, OnReady=value)
            self.assertEqual(tomllib.loads(chosen.read_text()), {"watch": {"on_ready": "restart"}})
            self.assertFalse((self.at / "MARK").exists(), value)


if __name__ == "__main__":
    unittest.main()
