"""What the runbook does with hosts of every kind, its state machine run turn by turn."""

import datetime
import json
import unittest

from runbook import Clock, Host, Rollout, fleet, random_fleet, script


class Waves(unittest.TestCase):
    def sizes(self, rollout):
        return [len(hosts) for _, hosts in rollout.cloud.waves]

    def test_a_canary_of_one_then_waves_that_grow_up_to_the_share_of_the_zone(self):
        rollout = Rollout(fleet(1001)).run()
        self.assertEqual(rollout.state["phase"], "done")
        self.assertEqual(rollout.counts, {"moved": 1001})
        self.assertEqual(self.sizes(rollout)[:5], [1, 4, 16, 33, 33])
        self.assertTrue(all(host.restarts == 1 for host in rollout.cloud.all.values()))

    def test_ten_thousand_hosts_fit_in_one_execution(self):
        rollout = Rollout(fleet(10_000)).run()
        self.assertEqual((rollout.state["phase"], rollout.counts["moved"]), ("done", 10_000))
        self.assertLess(rollout.state["turn"], 100)

    def test_a_share_of_two_percent_takes_many_waves_and_still_ends(self):
        rollout = Rollout(fleet(1500), share=2).run()
        self.assertEqual((rollout.state["phase"], rollout.counts["moved"]), ("done", 1500))

    def test_whatever_the_fleet_the_rules_hold_and_every_host_is_accounted_for(self):
        for seed in range(150):
            with self.subTest(seed=seed):
                hosts, dice = random_fleet(seed)
                # The rules are asserted where a restart begins: see Cloud.restart.
                share, growth, moved = dice.choice([1, 10, 50, 100]), dice.randint(2, 10), 0
                while (rollout := Rollout(hosts, share, growth).run()).state["phase"] == "unfinished":
                    self.assertGreater(rollout.counts["moved"], 0)
                    moved += rollout.counts["moved"]
                self.assertEqual(rollout.state["phase"], "done")
                self.assertEqual(sum(rollout.counts.values()), len(hosts))
                really = [host.restarts for host in hosts.values() if host.restarts and host.delivered and host.restart == 0]
                self.assertEqual(really, [1] * (moved + rollout.counts.get("moved", 0)))

    def test_whatever_the_fleet_the_first_host_that_is_not_verified_ends_it(self):
        for seed in range(150):
            with self.subTest(seed=seed):
                hosts, dice = random_fleet(seed)
                bad = [host for host in hosts.values() if host.verdict == 10 and host.online and host.known and host.delivered and host.restart == 0]
                for host in dice.sample(bad, min(len(bad), 2)):
                    host.after = dice.choice([10, 13, 1])
                rollout = Rollout(hosts, share=20).run()
                failed = [name for name, host in hosts.items() if host.restarts and host.after]
                if not failed:
                    self.assertEqual(rollout.state["phase"], "done")
                    continue
                self.assertEqual(rollout.state["phase"], "halted")
                self.assertIn(rollout.state["instance"], failed)
                self.assertTrue(set(failed) <= set(rollout.cloud.waves[-1][1]), "something was restarted after the failure")
                self.assertEqual(json.loads(rollout.cloud.parameters["prod"])["instance"], rollout.state["instance"])

    def test_the_canary_is_one_that_really_moved(self):
        hosts = fleet(30, ["a"])
        for name in sorted(hosts)[:5]:
            hosts[name].restart = 12
        rollout = Rollout(hosts, share=50).run()
        self.assertEqual(self.sizes(rollout)[:7], [1, 1, 1, 1, 1, 1, 4])
        self.assertEqual(rollout.counts, {"moved": 25, "refused": 5})


class Failures(unittest.TestCase):
    def test_a_canary_that_does_not_come_back_is_the_only_host_touched(self):
        rollout = Rollout(fleet(300, after=13)).run()
        self.assertEqual(sum(host.restarts for host in rollout.cloud.all.values()), 1)
        self.assertEqual(rollout.counts, {"failed": 1})
        text, summary = rollout.summary()
        self.assertIn("HALTED: i-00000000000000000 was restarted in wave 1 and could not be verified", text)
        self.assertIn("299 hosts were not looked at", text)
        self.assertEqual((summary["ended"], summary["instance"]), ("halted", "i-00000000000000000"))

    def test_settled_and_not_connected_is_not_verified(self):
        rollout = Rollout(fleet(3, connected=False)).run()
        self.assertIn("ECS does not see its agent connected", rollout.state["why"])

    def test_a_host_whose_own_proof_failed_is_not_verified_however_settled_it_is_afterwards(self):
        rollout = Rollout(fleet(300, restart=13)).run()
        self.assertEqual((rollout.state["phase"], rollout.counts), ("halted", {"failed": 1}))
        self.assertIn("could not be verified", json.loads(rollout.cloud.parameters["prod"])["why"])

    def test_of_many_that_hang_none_is_told_as_not_sent_to(self):
        hosts = fleet(400, ["a"])
        for host in list(hosts.values())[1:]:
            host.takes = 100_000
        rollout = Rollout(hosts, share=100, growth=10)
        rollout.state.update(canary=True, size=40)
        rollout.run()
        self.assertEqual((rollout.state["phase"], rollout.counts), ("halted", {"failed": 39, "moved": 1}))

    def test_a_wave_that_the_last_turn_leaves_under_way_is_called_back_and_halts(self):
        rollout = Rollout(fleet(9, takes=100_000))
        while rollout.state["phase"] != "restart":
            rollout.state["turn"] = rollout.state.get("turn", 0)
            rollout.names["PHASES"][rollout.state["phase"]](rollout.state, rollout.cloud, rollout.options, rollout.clock, rollout.clock.now() + 480)
        rollout.state["turn"] = 99
        self.assertFalse(rollout.turn())
        self.assertEqual(rollout.state["phase"], "halted")
        self.assertEqual(len(rollout.cloud.cancelled), 1)
        self.assertIn("could not be verified", json.loads(rollout.cloud.parameters["prod"])["why"])

    def test_no_wave_begins_that_one_execution_may_not_see_the_end_of(self):
        for wait_s, began in ((300, True), (3600, True), (100_000, False)):
            rollout = Rollout(fleet(3))
            rollout.options["wait_s"] = wait_s
            rollout.run()
            self.assertEqual(bool(rollout.cloud.waves), began)
            self.assertEqual(rollout.state["phase"], "done" if began else "unfinished")

    def test_an_agent_that_reconnects_within_minutes_is_no_failure(self):
        rollout = Rollout(fleet(3, connected=False))
        began, connected = rollout.clock.now(), rollout.cloud.connected
        rollout.cloud.connected = lambda *args: set(args[1]) if rollout.clock.now() > began + 150 else connected(*args)
        self.assertEqual(rollout.run().counts, {"moved": 3})

    def test_a_host_lost_to_ssm_after_its_restart_halts(self):
        hosts = fleet(60, ["a"])
        rollout = Rollout(hosts)
        restart = rollout.cloud.restart

        def lose(names, comment):
            restart(names, comment)
            if " wave 2 " in f" {comment} ":
                hosts[names[-1]].online = False

        rollout.cloud.restart = lose
        rollout.run()
        self.assertEqual(rollout.state["phase"], "halted")
        self.assertEqual(rollout.state["instance"], rollout.cloud.waves[1][1][-1])
        self.assertEqual(rollout.counts["moved"], 1 + len(rollout.cloud.waves[1][1]) - 1)

    def test_whoever_cannot_be_reached_is_counted_and_named(self):
        hosts = fleet(40, ["a"])
        for number, name in enumerate(sorted(hosts)[:30]):
            setattr(hosts[name], ("online", "known", "delivered")[number % 3], False)
        rollout = Rollout(hosts).run()
        self.assertEqual(rollout.counts, {"moved": 10, "unreachable": 30})
        self.assertEqual(rollout.state["samples"]["unreachable"], sorted(hosts)[:20])
        self.assertIn("and 10 more", rollout.summary()[0])

    def test_output_cut_short_is_still_read(self):
        self.assertEqual(Rollout(fleet(9), cut=135).run().counts, {"moved": 9})

    def test_output_that_says_nothing_never_counts_as_a_verdict(self):
        self.assertEqual(Rollout(fleet(9), cut=40).run().counts, {"unknown": 9})

    def test_a_restart_that_run_command_gave_up_is_judged_by_the_check(self):
        hosts = fleet(3, takes=100)
        for host in hosts.values():
            host.cut_off = 60
        self.assertEqual(Rollout(hosts).run().counts, {"moved": 3})

    def test_a_restart_that_does_not_end_halts(self):
        rollout = Rollout(fleet(3, takes=100_000)).run()
        self.assertEqual((rollout.state["phase"], rollout.counts), ("halted", {"failed": 1}))

    def test_an_api_that_fails_for_good_ends_it_and_one_that_recovers_does_not(self):
        for times, phase in ((2, "done"), (99, "halted")):
            rollout = Rollout(fleet(30))
            problems = [RuntimeError("AccessDenied {{ x }}")] * times
            rollout.cloud.fail = lambda name: problems.pop() if name == "answers" and len(rollout.cloud.waves) == 2 and problems else None
            rollout.run()
            self.assertEqual(rollout.state["phase"], phase)
        self.assertIn("could not be verified (RuntimeError: AccessDenied", rollout.state["why"])
        self.assertIn("prod", rollout.cloud.parameters)

    def test_a_send_that_fails_half_way_leaves_none_unaccounted(self):
        hosts = fleet(300, ["a"])
        rollout = Rollout(hosts, share=100, growth=10)
        send = rollout.cloud.send

        def flaky(document, *rest):
            if document == "HostAgent-Restart" and len(rollout.cloud.waves) == 3 and rollout.cloud.under_way():
                raise RuntimeError("no")
            return send(document, *rest)

        rollout.cloud.send = flaky
        rollout.run()
        self.assertEqual(rollout.counts, {"moved": 1 + 10 + 50 + 189, "not_sent": 50})

    def test_hosts_of_which_nobody_knows_whether_they_were_sent_to_are_judged_by_a_check(self):
        for arrives, wanted in ((True, {"moved": 30}), (False, {"moved": 26, "not_sent": 4})):
            hosts = fleet(30, ["a"])
            rollout = Rollout(hosts, share=100)
            send = rollout.cloud.send

            def lost(document, batch, comment, parameters):
                if document == "HostAgent-Restart" and len(rollout.cloud.waves) == 1:
                    if arrives:
                        send(document, batch, comment, parameters)
                    else:
                        rollout.cloud.waves.append((comment, []))
                    return [], [], batch, []
                return send(document, batch, comment, parameters)

            rollout.cloud.send = lost
            self.assertEqual(rollout.run().counts, wanted)
            self.assertTrue(all(host.restarts <= 1 for host in hosts.values()))

    def test_behind_hosts_in_doubt_nobody_is_sent_to_in_that_wave(self):
        rollout = Rollout(fleet(300, ["a"]), share=100, growth=10)
        send = rollout.cloud.send

        def lost(document, batch, comment, parameters):
            sent = send(document, batch, comment, parameters)
            first = document == "HostAgent-Restart" and len(rollout.cloud.waves) == 3 and len(rollout.cloud.waves[2][1]) == 50
            return ([], [], batch, []) if first else sent

        rollout.cloud.send = lost
        rollout.run()
        self.assertEqual(rollout.counts["not_sent"], 50)
        self.assertEqual([len(hosts) for _, hosts in rollout.cloud.waves][2:], [50, 189])

    def test_a_host_in_doubt_that_cannot_be_verified_halts(self):
        hosts = fleet(30, ["a"], after=13)
        rollout = Rollout(hosts)
        send = rollout.cloud.send

        def lost(document, *rest):
            sent = send(document, *rest)
            return ([], [], rest[0], []) if document == "HostAgent-Restart" else sent

        rollout.cloud.send = lost
        rollout.run()
        self.assertEqual((rollout.state["phase"], rollout.state["unverified"]), ("halted", [sorted(hosts)[0]]))

    def test_hosts_that_drain_or_go_are_counted_and_named_and_halt_nothing(self):
        hosts = fleet(30, ["a"])
        names = sorted(hosts)
        hosts[names[3]].draining = True
        rollout = Rollout(hosts, share=100)
        restart = rollout.cloud.restart

        def go(batch, comment):
            restart(batch, comment)
            if len(rollout.cloud.waves) == 2:
                hosts[batch[-1]].gone = hosts[names[-1]].gone = True

        rollout.cloud.restart = go
        rollout.run()
        self.assertEqual((rollout.state["phase"], rollout.counts), ("done", {"moved": 27, "draining": 1, "gone": 2}))
        self.assertEqual(rollout.state["samples"], {"draining": [names[3]], "gone": [rollout.cloud.waves[1][1][-1]]})
        text, figures = rollout.summary()
        self.assertIn(f"draining: {names[3]}", text)
        self.assertEqual((figures["not_looked_at"], figures["unverified"]), (0, []))

    def test_unverified_hosts_have_a_field_of_their_own(self):
        hosts = fleet(30, ["a"])
        for host in list(hosts.values())[1:]:
            host.after = 13
        rollout = Rollout(hosts, share=100).run()
        text, figures = rollout.summary()
        self.assertEqual(figures["unverified"], rollout.cloud.waves[1][1])
        self.assertIn("restarted and not verified: " + ", ".join(figures["unverified"]), text)

    def test_however_slow_the_calls_no_turn_runs_out_of_its_time_with_restarts_that_nobody_remembers(self):
        for slow in (5, 20, 60, 90):
            with self.subTest(slow=slow):
                hosts = fleet(700, ["a"])
                rollout = Rollout(hosts, share=100, growth=10)
                rollout.longest = 600  # What the step is given.

                def seen(name, clock=rollout.clock, slow=slow):
                    # Throttled and tried again. What is written to the halt is one call.
                    clock.time += slow if name in ("send", "online", "answers") else 1

                rollout.cloud.seen = seen
                rollout.run()
                self.assertEqual(sum(rollout.counts.values()), sum(host.restarts for host in hosts.values()) + rollout.counts.get("not_sent", 0))
                self.assertGreater(rollout.counts["moved"], 0)


class Brakes(unittest.TestCase):
    def test_the_halt_parameter_stops_it_between_waves_and_the_next_run_takes_up_what_is_left(self):
        hosts = fleet(200)
        first = Rollout(hosts)
        while len(first.cloud.waves) < 3:
            first.turn()
        first.cloud.parameters["prod"] = "by hand {{ automation:EXECUTION_ID }}"
        first.run()
        self.assertEqual(first.state["phase"], "halted")
        self.assertIn("/hostagent/prod/halt is set: by hand", first.state["why"])
        moved = first.counts["moved"]
        text, figures = first.summary()
        left = sorted((host.zone, name) for name, host in hosts.items() if not host.restarts)
        self.assertEqual(figures["left"], [name for _, name in left][:20])
        self.assertIn(f"{200 - moved} hosts were not looked at: {figures['left'][0]}, ", text)
        self.assertIn(f" and {200 - moved - 20} more. Run the rollout again", text)
        self.assertEqual(moved, sum(host.restarts for host in hosts.values()), "the wave under way was not verified")
        second = Rollout(hosts)
        second.clock.time = first.clock.time
        second.run()
        self.assertEqual(second.counts, {"moved": 200 - moved, "settled_before": moved})
        self.assertTrue(all(host.restarts == 1 for host in hosts.values()))

    def test_any_value_of_the_halt_parameter_halts_before_the_first_host(self):
        rollout = Rollout(fleet(9))
        rollout.cloud.parameters["prod"] = ""
        self.assertEqual(rollout.run().state["phase"], "halted")
        self.assertEqual(rollout.cloud.waves, [])

    def test_a_brake_pulled_during_the_check_keeps_the_wave_from_beginning(self):
        rollout = Rollout(fleet(90))
        online = rollout.cloud.online

        def pulled(hosts):
            if len(rollout.cloud.waves) == 1 and rollout.state["wave"] == 1:
                rollout.cloud.parameters["prod"] = "now"
            return online(hosts)

        rollout.cloud.online = pulled
        rollout.run()
        self.assertEqual((len(rollout.cloud.waves), rollout.counts), (1, {"moved": 1}))

    def test_a_closed_calendar_holds_and_an_open_one_lets_go_on(self):
        rollout = Rollout(fleet(9), calendars=["change"])
        rollout.cloud.calendar = "a change calendar is closed until noon"
        for _ in range(5):
            self.assertTrue(rollout.turn())
        self.assertEqual(rollout.cloud.waves, [])
        self.assertIn("held before wave 1, 0 moved so far: a change calendar is closed until noon", rollout.messages[-1])
        rollout.cloud.calendar = None
        self.assertEqual(rollout.run().counts, {"moved": 9})

    def test_a_calendar_closed_for_ever_ends_unfinished(self):
        rollout = Rollout(fleet(9), calendars=["change"])
        rollout.cloud.calendar = "closed"
        rollout.run()
        self.assertEqual(rollout.state["phase"], "unfinished")
        self.assertIn("NOT FINISHED", rollout.summary()[0])

    def test_an_alarm_halts_and_so_does_one_that_is_not_there(self):
        for state in ("ALARM", None, "OK", "INSUFFICIENT_DATA"):
            rollout = Rollout(fleet(9), alarms=["errors"])
            if state:
                rollout.cloud.states["errors"] = state
            rollout.run()
            self.assertEqual(rollout.state["phase"], "done" if state in ("OK", "INSUFFICIENT_DATA") else "halted")

    def test_a_tag_target_reads_the_halt_of_the_clusters_it_meets(self):
        rollout = Rollout(fleet(9), cluster="")
        rollout.cloud.parameters["prod"] = "stop"
        self.assertEqual(rollout.run().state["phase"], "halted")
        self.assertEqual(rollout.cloud.waves, [])


class Ssm:
    """Commands, and what is done about them; `of` a command are its invocations."""

    class exceptions:
        ParameterAlreadyExists = KeyError

    def __init__(self, commands, fails=()):
        self.commands, self.fails, self.cancelled, self.parameters, self.lost = commands, fails, [], {}, ()

    def get_paginator(self, name):
        def paginate(CommandId=None, Filters=(), Details=False):
            if name in self.fails:
                raise RuntimeError("AccessDenied {{ x }}")
            if name == "describe_instance_information":
                status = "ConnectionLost" if set(Filters[0]["Values"]) & set(self.lost) else "Online"
                return [{"InstanceInformationList": [{"InstanceId": host, "PingStatus": status} for host in Filters[0]["Values"]]}]
            status = {each["value"] for each in Filters if each["key"] == "Status"}
            found = [each for each in self.commands if CommandId in (None, each["CommandId"]) and (not status or each["Status"] in status)]
            if name == "list_commands":
                return [{"Commands": found}]
            output = [{"Output": '{"cluster":"prod","verdict":"settled"}'}]
            return [{"CommandInvocations": [{"InstanceId": host, "Status": status, "CommandPlugins": output}
                                            for each in found for host, status in each["of"].items()]}]

        return type("Pages", (), {"paginate": staticmethod(paginate)})

    def cancel_command(self, CommandId):
        if "cancel_command" in self.fails:
            raise RuntimeError("no")
        self.cancelled.append(CommandId)

    def get_automation_execution(self, AutomationExecutionId):
        return {"AutomationExecution": {"AutomationExecutionStatus": "Cancelling"}}

    def put_parameter(self, Name, Value, Type, Description):
        self.parameters[Name] = json.loads(Value)


class Lost(unittest.TestCase):
    def recall(self, phase="gate", cluster="prod", waves=(1, 2, 3), fails=()):
        commands = [{"CommandId": f"c{wave}", "Status": "InProgress", "InstanceIds": [f"i-{wave}"], "of": {f"i-{wave}": "InProgress"},
                     "Comment": f"hostagent rollout e wave {wave} restart"} for wave in waves]
        commands.append({**commands[0], "CommandId": "other", "Comment": "hostagent rollout ee wave 9 restart"} if commands else {"CommandId": "x",
                        "Status": "Success", "InstanceIds": [], "of": {}, "Comment": ""})
        ssm = Ssm(commands, fails)
        state = {"phase": phase, "wave": 2, "began": 1_000_000, "counts": {}, "samples": {}}
        return ssm, script("Lost")["recall"](ssm, state, "e", cluster, lambda seconds: None)

    def test_restarts_of_waves_that_were_not_verified_are_called_back_and_the_cluster_is_halted(self):
        for phase, unverified in (("gate", ["i-3"]), ("restart", ["i-2", "i-3"]), ("verify", ["i-2", "i-3"])):
            ssm, state = self.recall(phase)
            self.assertEqual(ssm.cancelled, ["c" + host[2:] for host in unverified])
            self.assertEqual((state["phase"], state["unverified"], state["instance"]), ("halted", unverified, unverified[0]))
            self.assertEqual(state["wave"], 3)
            halt = ssm.parameters["/hostagent/prod/halt"]
            self.assertEqual((halt["schema"], halt["by"]), ("hostagent/halt/1", "rollout e"))
            self.assertIn("the rollout was cancelled in the middle of a wave", halt["why"])
            self.assertIn("i-3", halt["why"])

    def test_between_two_waves_nothing_is_halted(self):
        ssm, state = self.recall(waves=(1, 2))
        self.assertEqual((ssm.cancelled, ssm.parameters, state["phase"]), ([], {}, "halted"))
        self.assertIn("between two waves", state["why"])

    def test_without_a_cluster_it_is_read_from_the_answers(self):
        self.assertIn("/hostagent/prod/halt", self.recall(cluster="")[0].parameters)

    def test_what_cannot_be_seen_or_done_keeps_from_nothing_else(self):
        for fails in (["list_commands"], ["cancel_command"]):
            ssm, state = self.recall(fails=fails)
            self.assertIn("/hostagent/prod/halt", ssm.parameters)
            self.assertIn("could not be", state["why"])
            self.assertNotIn("{{", state["why"])


class StartAndEnd(unittest.TestCase):
    def execution(self, name, minute, **parameters):
        at = datetime.datetime(2026, 1, 1, 0, minute)
        return {"AutomationExecutionId": name, "ExecutionStartTime": at, "Parameters": {key: [value] for key, value in parameters.items()}}

    def test_of_two_for_the_same_hosts_the_second_gives_way_to_the_first(self):
        real, nobody = script("Start")["rival"], lambda other: set()
        rival = lambda mine, others: real(mine, others, {"i-1"}, nobody)
        one, two = self.execution("a", 1, Cluster="prod"), self.execution("b", 2, Cluster="prod")
        self.assertEqual(rival(two, [one]), "a")
        self.assertIsNone(rival(one, [two]))
        self.assertEqual(rival(self.execution("b", 1, Cluster="prod"), [one]), "a")
        self.assertIsNone(rival(self.execution("b", 2, Cluster="other"), [one]))
        blue, red = (self.execution(name, minute, TagKey="env", TagValue=name) for name, minute in (("blue", 1), ("red", 2)))
        self.assertIsNone(rival(red, [blue]))
        # The same hosts by other names.
        self.assertEqual(real(red, [blue], {"i-1", "i-2"}, lambda other: {"i-2", "i-3"}), "blue")
        self.assertEqual(real(two, [blue], {"i-1", "i-2"}, lambda other: {"i-2"}), "blue")
        self.assertIsNone(real(two, [blue], {"i-1"}, lambda other: {"i-2"}))
        # A host is in one cluster: nobody has to be asked.
        self.assertIsNone(real(two, [self.execution("c", 1, Cluster="other")], {"i-1"}, lambda other: self.fail()))

    def test_a_restart_left_over_from_before_is_found_by_host(self):
        left_over = script("Start")["left_over"]
        for invocations, found in (({"i-1": "InProgress"}, ("c", "i-1")), ({"i-1": "Success", "i-2": "InProgress"}, None), ({"i-2": "Pending"}, None)):
            for named in ([], list(invocations)):
                ssm = Ssm([{"CommandId": "c", "Status": "InProgress", "InstanceIds": named, "Comment": "", "of": invocations}])
                self.assertEqual(left_over(ssm, {"i-1": "a"}.keys()), found)

    def test_a_restart_left_over_is_waited_for_but_not_on_a_host_that_is_out_of_reach(self):
        let_end = script("Start")["let_end"]
        for lost, raises in (((), True), (("i-1",), False)):
            clock = Clock()
            command = {"CommandId": "c", "Status": "InProgress", "InstanceIds": [], "Comment": "", "of": {"i-1": "InProgress"}}
            ssm, until = Ssm([command]), clock.now() + 360
            ssm.lost = lost
            if raises:
                with self.assertRaisesRegex(RuntimeError, "still under way on i-1: wait for the command c to end"):
                    let_end(ssm, {"i-1", "i-2"}, until, clock.now, clock.sleep)
            else:
                let_end(ssm, {"i-1", "i-2"}, until, clock.now, clock.sleep)
            self.assertGreaterEqual(clock.now(), until, "it was not waited for")
            # Another host's is waited for all the same.
            command["of"] = {"i-1": "InProgress", "i-2": "InProgress"}
            with self.assertRaises(RuntimeError):
                let_end(ssm, {"i-1", "i-2"}, until, clock.now, clock.sleep)

    def test_exactly_one_kind_of_target(self):
        target = script("Start")["target"]
        event = {"Cluster": "", "TagKey": "", "TagValue": "", "InstanceIds": [], "Pause": "60", "Wait": "1h"}
        self.assertEqual(target({**event, "Cluster": "prod"}), "Cluster")
        self.assertEqual(target({**event, "TagKey": "a", "TagValue": "b"}), "TagKey")
        for wrong in ({}, {"TagKey": "a"}, {"TagValue": "b"}, {"Cluster": "prod", "InstanceIds": ["i-1"]}, {"Cluster": "prod", "Pause": "3601"},
                      {"Cluster": "prod", "Wait": "61m"}, {"Cluster": "prod", "Wait": "9999h"}):
            with self.assertRaises(ValueError):
                target({**event, **wrong})

    def test_an_empty_cluster_is_done(self):
        rollout = Rollout({}).run()
        self.assertEqual(rollout.messages, ["done, 0 moved so far"])
        self.assertIn("0 hosts, 0 waves: none looked at", rollout.summary()[0])

    def test_messages_say_where_it_is(self):
        rollout = Rollout(fleet(120, takes=600)).run()
        self.assertIn("wave 2: 4 hosts of eu-west-1a restarting, 1 moved so far", rollout.messages)

    def test_a_halted_rollout_fails_its_execution_and_a_done_one_does_not(self):
        verdict = script("Verdict")["handler"]
        verdict({"Ended": "done", "Text": "fine"}, None)
        with self.assertRaisesRegex(RuntimeError, "i-1 is lost"):
            verdict({"Ended": "halted", "Text": "i-1 is lost"}, None)

    def test_the_state_stays_small_whatever_is_in_it(self):
        names = script("Advance")
        samples = {reason: [f"mi-{n:017x}" for n in range(200)] for reason in "abcdefgh"}
        state = {"samples": samples, "counts": {"a": 9000}, "why": "x" * 600, "sent": [["c" * 36, 50]] * 10, "checks": [["c" * 36, 50]] * 10}
        pieces = names["pieces"](names["pack"](state))
        self.assertLessEqual(max(map(len, pieces)), 512)
        self.assertLessEqual(len(pieces), 50)
        self.assertEqual(state["counts"], {"a": 9000})
        self.assertEqual(json.loads("".join(pieces)), state)


if __name__ == "__main__":
    unittest.main()
