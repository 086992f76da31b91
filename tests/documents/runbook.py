"""The Python of HostAgent-Rollout, taken out of the document, and a cloud of plain objects for it to run against."""

import functools
import json
import pathlib
import random

import yaml

SSM = pathlib.Path(__file__).parents[2] / "packaging" / "ssm"


@functools.cache
def document(name):
    return yaml.safe_load((SSM / f"{name}.yaml").read_text())


def script(step):
    """The names that a step's script defines."""
    steps = [each for outer in document("HostAgent-Rollout")["mainSteps"] for each in [outer, *outer["inputs"].get("Steps", [])]]
    text = next(each["inputs"]["Script"] for each in steps if each["name"] == step)
    names = {}
    exec(compile(text, f"HostAgent-Rollout.yaml:{step}", "exec"), names)
    return names


class Clock:
    def __init__(self):
        self.time = 1_000_000.0

    def now(self):
        return self.time

    def sleep(self, seconds):
        assert 0 < seconds <= 480, seconds
        self.time += seconds


class Host:
    """`verdict` is what a check says; `after` what it says once restarted; `restart` the restart's own exit code."""

    def __init__(self, zone, verdict=10, after=0, restart=0, online=True, connected=True, known=True, delivered=True, takes=30):
        self.zone, self.verdict, self.after, self.restart = zone, verdict, after, restart
        self.online, self.connected, self.known, self.delivered, self.takes = online, connected, known, delivered, takes
        self.restarts, self.cut_off, self.draining, self.gone = 0, 1e9, False, False


def page(kind, code):
    words = {0: "SETTLED", 10: "RESTART NEEDED", 11: "WAITING", 12: "REFUSED", 13: "BROKEN", 75: "BUSY"}
    said = {"schema": f"hostagent/{kind}/1", "verdict": "x", "exit_code": code, "cluster": "prod"}
    return f"{words.get(code, 'UNKNOWN')}: a host's text with {{{{ braces }}}} and \"quotes\"\n{json.dumps(said, separators=(',', ':'))}\nFull report: /x\n"


class Cloud:
    """Stands where the runbook's Aws does. Looks at every restart whether it was allowed."""

    def __init__(self, hosts, clock, share, cut=None):
        self.all, self.clock, self.share, self.cut = hosts, clock, share, cut
        self.commands, self.parameters, self.states, self.calendar, self.waves = {}, {}, {}, None, []
        self.cancelled = {}
        self.calls, self.fail = 0, lambda name: None

    def seen(self, name):
        self.calls += 1
        problem = self.fail(name)
        if problem:
            raise problem

    def hosts(self, zone):
        self.seen("hosts")
        return sorted(name for name, host in self.all.items() if host.zone == zone and not host.gone)

    def draining(self, zone):
        return {name for name in self.hosts(zone) if self.all[name].draining}

    def gone(self, hosts):
        self.seen("gone")
        return {name for name in hosts if self.all[name].gone}

    def online(self, hosts):
        self.seen("online")
        assert len(hosts) <= 500
        return {name for name in hosts if self.all[name].online}

    def send(self, document, hosts, comment, parameters):
        self.seen("send")
        assert 1 <= len(hosts) <= 50 and len(set(hosts)) == len(hosts)
        assert parameters == ({"Wait": ["5m"], "Lenient": ["yes"]} if document == "HostAgent-Restart" else {})
        gone = [name for name in hosts if not self.all[name].known]
        hosts = [name for name in hosts if self.all[name].known]
        if not hosts:
            return [], gone, [], []
        command = f"{len(self.commands):036d}"
        self.commands[command] = (document, hosts, self.clock.now(), {})
        if document == "HostAgent-Restart":
            self.restart(hosts, comment)
        return [[command, len(hosts)]], gone, [], []

    def restart(self, hosts, comment):
        if not self.waves or self.waves[-1][0] != comment:
            assert not self.under_way(), "a wave begins while another is under way"
            self.waves.append((comment, []))
        for name in hosts:
            host = self.all[name]
            assert host.verdict == 10, f"{name} was restarted and did not need it"
            assert not host.draining and not host.gone
            host.ends = self.clock.now() + host.takes
            host.restarts += 1
            if host.delivered and host.restart in (0, 13):
                host.verdict = host.after
        self.waves[-1][1].extend(hosts)
        zones = {self.all[name].zone for name in self.under_way()}
        assert len(zones) == 1, f"two zones at once: {zones}"
        zone = self.hosts(zones.pop())
        assert len(self.under_way()) <= max(1, len(zone) * self.share // 100), "more than the share of a zone"

    def under_way(self):
        return [name for name, host in self.all.items() if getattr(host, "ends", 0) > self.clock.now()]

    def answers(self, sent):
        self.seen("answers")
        found = {}
        for command, _ in sent:
            document, hosts, at, done = self.commands[command]
            # A new command is not listed at once.
            for name in hosts if self.clock.now() > at + 1 else hosts[: len(hosts) // 2]:
                host = self.all[name]
                kind = "check" if document == "HostAgent-Check" else "restart"
                takes = 2 if kind == "check" else min(host.takes, host.cut_off)
                if host.gone:
                    answer = {"Status": "InProgress", "StatusDetails": "InProgress"}
                elif not host.delivered:
                    answer = {"Status": "TimedOut", "StatusDetails": "DeliveryTimedOut"} if self.clock.now() > at + 60 else {"Status": "Pending"}
                elif self.cancelled.get((command, name)):
                    answer = {"Status": "Cancelled", "StatusDetails": "Cancelled", "CommandPlugins": [{"Output": ""}]}
                elif self.clock.now() < at + takes:
                    answer = {"Status": "InProgress", "StatusDetails": "InProgress"}
                elif kind == "restart" and host.cut_off < host.takes:
                    answer = {"Status": "TimedOut", "StatusDetails": "ExecutionTimedOut", "CommandPlugins": [{"Output": ""}]}
                else:
                    busy = getattr(host, "ends", 0) > self.clock.now()
                    code = done.setdefault(name, 75 if busy and kind == "check" else host.verdict if kind == "check" else host.restart)
                    text = page(kind, code)[: self.cut]
                    status = "Failed" if kind == "restart" and code or code == 1 else "Success"
                    answer = {"Status": status, "StatusDetails": status, "CommandPlugins": [{"Output": text}]}
                found[name] = answer
        return found

    def connected(self, cluster, hosts):
        self.seen("connected")
        assert cluster == "prod"
        return {name for name in hosts if not self.all[name].gone and (self.all[name].connected or not self.all[name].restarts)}

    def cancel(self, sent):
        self.seen("cancel")
        for command, _ in sent:
            document, hosts, at, done = self.commands[command]
            for name in hosts:
                if self.clock.now() < at + min(self.all[name].takes, self.all[name].cut_off):
                    self.cancelled[(command, name)] = True

    def halt(self, cluster):
        self.seen("halt")
        return self.parameters.get(cluster)

    def set_halt(self, cluster, value):
        self.seen("set_halt")
        self.parameters.setdefault(cluster, json.dumps(value))

    def alarms(self, names):
        return {name: self.states.get(name, "missing") for name in names}

    def closed(self, calendars):
        return self.calendar


class Rollout:
    """Runs the turns as Automation's loop does, the state going through JSON each time."""

    def __init__(self, hosts, share=10, growth=4, cluster="prod", alarms=(), calendars=(), cut=None):
        self.names = script("Advance")
        self.clock = Clock()
        self.cloud = Cloud(hosts, self.clock, share, cut)
        self.options = {"cluster": cluster, "execution": "e" * 36, "share": share, "growth": growth, "pause": 60, "wait": "5m",
                        "wait_s": 300, "alarms": list(alarms), "calendars": list(calendars)}
        counts = {}
        for host in hosts.values():
            counts[host.zone] = counts.get(host.zone, 0) + 1
        self.state = {"phase": "gate" if hosts else "done", "zones": sorted(counts.items()), "zone": 0, "cursor": "", "wave": 0, "size": 1,
                      "canary": False, "hosts": len(hosts), "counts": {}, "samples": {}, "whom": "cluster prod", "began": int(self.clock.now())}
        self.messages, self.longest = [], 500

    def turn(self):
        began = self.clock.now()
        self.state = self.names["advance"](self.state, self.cloud, self.options, self.clock)
        assert self.clock.now() - began <= self.longest, f"a turn took {self.clock.now() - began} s"
        pieces = self.names["pieces"](self.names["pack"](self.state))
        # What aws:updateVariable takes.
        assert len(pieces) <= 50 and all(1 <= len(piece) <= 512 for piece in pieces), pieces
        text = "".join(pieces)
        assert "{{" not in text, text
        self.state = json.loads(text)
        self.messages.append(self.names["message"](self.state))
        return self.state["phase"] not in self.names["ENDS"]

    def run(self):
        turns = 1
        while self.turn() and turns < 100:
            turns += 1
        return self

    @property
    def counts(self):
        return self.state["counts"]

    def summary(self):
        answer = script("Summary")["handler"]({"State": [json.dumps(self.state)], "Execution": "e" * 36}, None)
        return answer["Text"], json.loads(answer["Json"])


def fleet(hosts, zones=("eu-west-1a", "eu-west-1b", "eu-west-1c"), **behaviour):
    return {f"i-{number:017x}": Host(zones[number % len(zones)], **behaviour) for number in range(hosts)}


def random_fleet(seed):
    dice = random.Random(seed)
    hosts = fleet(dice.choice([0, 1, 2, 7, 51, 130, 400]), [f"z{n}" for n in range(dice.randint(1, 4))])
    for host in hosts.values():
        host.verdict = dice.choice([10, 10, 10, 10, 0, 11, 12, 13, 75, 1])
        host.restart = dice.choice([0] * 8 + [12, 75, 11])
        host.online = dice.random() > 0.05
        host.known = dice.random() > 0.02
        host.delivered = dice.random() > 0.03
        host.takes = dice.choice([2, 30, 200])
    return hosts, dice
