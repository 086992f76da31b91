//! What breaks around the service: it carries on, says what is wrong, never leaves the agent down, and moves it once.

use crate::{scene::Scene, served::served};
use hostagent::events;
use hostagent_lab::region::{
    place::Service,
    switch::{Change, ImdsMode, Path},
};

const MOVED: &str = "the agent was moved, and that is proved";

impl Scene<'_> {
    fn service_pid(&self) -> u32 {
        self.host.unit("hostagent.service").main_pid
    }

    /// Waits until the service has looked so many times more, whether or not a question of its gets through.
    #[track_caller]
    fn after_tries(&self, more: usize) {
        for _ in 0..more {
            let before = self.status()["looked_at"].clone();
            self.host.until("another look", |_| (self.status()["looked_at"] != before).then_some(()));
        }
    }

    /// Waits until the service has moved the agent for the `nth` time.
    #[track_caller]
    pub fn until_moved(&self, nth: usize) {
        self.host.until(MOVED, |_| (self.times_said(MOVED) >= nth).then_some(()));
    }

    /// The agent was restarted once since it had registered so often, and all is well.
    #[track_caller]
    fn is_moved_once(&self, registrations: u32) {
        self.until_moved(1);
        self.until_state("settled");
        self.after_looks(2);
        self.is_private();
        self.is_whole();
        assert_eq!(self.registrations(), registrations + 1, "{}", self.said());
        assert_eq!(self.records(&events::RESTART_BEGUN).len(), 1, "{}", self.said());
    }
}

#[test]
fn the_engine_restarts() {
    served("", |s| {
        s.until_said("waiting for endpoints");
        // Containers outlive the engine; the agent's unit is PartOf= it, and is restarted with it.
        s.host.write("/etc/docker/daemon.json", r#"{"live-restore": true}"#);
        s.host.exec(&["systemctl", "reload", "docker"]).ok();
        let (pid, mark) = (s.service_pid(), s.host.mark());
        s.host.exec(&["systemctl", "restart", "docker"]).ok();
        s.until_said("the Docker Engine answers again");
        s.host.await_agent(mark);
        let before = s.registrations();
        s.endpoints_appear();
        s.is_moved_once(before);
        // Killed, once all is settled.
        let mark = s.host.mark();
        let engine = s.host.pids("^/usr/sbin/dockerd");
        assert!(s.host.kill("KILL", engine[0]));
        s.host.until("told a second time", |_| (s.times_said("the Docker Engine answers again") == 2).then_some(()));
        s.host.await_agent(mark);
        s.until_state("settled");
        s.is_whole();
        assert_eq!((s.records(&events::RESTART_BEGUN).len(), s.service_pid()), (1, pid), "{}", s.said());
    });
}

#[test]
fn the_agent_crashes_and_comes_back_by_itself_on_the_endpoints() {
    served("", |s| {
        s.until_said("waiting for endpoints");
        s.host.write("/run/hostagent/pause", "");
        s.endpoints_appear();
        s.until_said("paused by the pause file");
        let (before, mark) = (s.registrations(), s.host.mark());
        s.host.exec(&["docker", "kill", "-s", "KILL", "ecs-agent"]).ok();
        s.until_said("the agent's container: die");
        s.host.await_agent(mark);
        s.until_state("settled");
        s.host.exec(&["rm", "/run/hostagent/pause"]).ok();
        s.after_looks(3);
        s.is_private();
        s.is_whole();
        assert_eq!(s.registrations(), before + 1, "by itself, and no more");
        assert_eq!(s.times_said("restarting the agent for"), 0, "{}", s.said());
    });
}

#[test]
fn the_agent_crashes_in_the_middle_of_being_moved() {
    served("", |s| {
        let before = s.registrations();
        s.endpoints_appear();
        s.until_told("holding");
        let mark = s.host.mark();
        s.host.exec(&["docker", "kill", "-s", "KILL", "ecs-agent"]).ok();
        s.until_said("is not proved to have moved");
        assert_eq!(s.records(&events::RESTART_NOT_VERIFIED).len(), 1);
        s.host.await_agent(mark);
        s.until_state("settled");
        s.after_looks(3);
        s.is_private();
        s.is_whole();
        assert_eq!(s.registrations(), before + 2, "moved once, and once by itself");
        assert_eq!(s.records(&events::RESTART_BEGUN).len(), 1, "{}", s.said());
    });
}

#[test]
fn an_agent_that_does_not_come_back_is_alarm_and_is_not_tried_again() {
    served("[restart]\ndeadline_s = 4\n", |s| {
        s.until_said("waiting for endpoints");
        s.host.write("/var/lib/ecs/data/faults", "never-return");
        s.endpoints_appear();
        s.until_said("THE AGENT IS DOWN");
        s.until_state("broken");
        assert_eq!((s.records(&events::AGENT_DOWN).len(), s.records(&events::RESTART_NOT_VERIFIED).len()), (1, 1));
        s.expect(13, &["status"]);
        // Its supervisor was left at work, and has it back once the cause is gone.
        let mark = s.host.mark();
        s.host.exec(&["rm", "/var/lib/ecs/data/faults"]).ok();
        s.host.await_agent(mark);
        s.until_state("settled");
        s.is_private();
        s.is_whole();
        assert_eq!(s.records(&events::RESTART_BEGUN).len(), 1, "{}", s.said());
    });
}

#[test]
fn the_journal_goes_away() {
    served("", |s| {
        s.until_said("waiting for endpoints");
        let (pid, before) = (s.service_pid(), s.registrations());
        s.host.exec(&["systemctl", "restart", "systemd-journald"]).ok();
        // Without the socket that takes fields, the words still arrive.
        s.host.sh("mv /run/systemd/journal/socket /run/systemd/journal/away").ok();
        s.path(&[Service::Ecs], Path::Endpoint);
        s.after_looks(1);
        s.host.write("/etc/hostagent/config.d/60-any.toml", "");
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.until_said("the configuration was read again");
        // With no journal at all, nobody hears it; it does what it has to.
        let units = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service";
        s.host.sh(&format!("systemctl stop {units}")).ok();
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.endpoints_appear();
        s.until_state("settled");
        s.host.sh(&format!("rm -f /run/systemd/journal/away; systemctl start {units}")).ok();
        s.is_private();
        s.is_whole();
        assert_eq!((s.registrations(), s.service_pid()), (before + 1, pid), "carried on");
        s.host.exec(&["systemctl", "reload", "hostagent"]).ok();
        s.host.until("its words again", |_| (s.times_said("the configuration was read again") >= 2).then_some(()));
    });
}

#[test]
fn names_cannot_be_resolved_for_a_while() {
    served("", |s| {
        s.until_said("waiting for endpoints");
        let (agent, before) = (s.agent(), s.registrations());
        s.path(&[], Path::Servfail);
        s.until_said("SERVFAIL");
        s.says(1, &["status"], &["SERVFAIL"]);
        // The server itself is away: no answer to anything.
        let wall = |action: &str| {
            s.host.exec(&["iptables", action, "INPUT", "-s", "10.50.0.2", "-j", "DROP"]).ok();
        };
        wall("-I");
        s.endpoints_appear();
        s.after_tries(2);
        s.says(1, &["status"], &["no answer from the name server in time"]);
        assert_eq!((s.agent(), s.times_said("restarting the agent")), (agent, 0), "{}", s.said());
        let [first, ..] = &s.records(&events::BLOCKED)[..] else { panic!("a record: {}", s.said()) };
        assert!(first["HOSTAGENT_WHY"].as_str().is_some_and(|why| why.contains("SERVFAIL")), "{first}");
        wall("-D");
        s.is_moved_once(before);
        // Settled, it does not take a name server that is away for an agent that is.
        let agent = s.agent();
        wall("-I");
        s.after_tries(2);
        wall("-D");
        s.until_state("settled");
        assert_eq!((s.agent(), s.times_said("BROKEN")), (agent, 0), "{}", s.said());
    });
}

#[test]
fn the_bus_restarts() {
    served("[restart]\ncool_down_s = 0\n[network]\nendpoint_cidrs = [\"10.50.200.0/24\"]\n", |s| {
        s.until_said("waiting for endpoints");
        let before = s.registrations();
        let gone = "mv /run/dbus/system_bus_socket /run/dbus/away";
        s.host.sh(gone).ok();
        s.host.exec(&["systemctl", "kill", "-s", "KILL", "dbus"]).ok();
        s.endpoints_appear();
        s.until_said("too little can be seen");
        s.host.sh("rm -f /run/dbus/away; systemctl restart dbus.socket dbus").ok();
        s.is_moved_once(before);
    });
}

#[test]
fn the_metadata_service_dies_and_comes_back() {
    served("", |s| {
        s.until_said("waiting for endpoints");
        let (agent, before) = (s.agent(), s.registrations());
        let imds = |mode| s.host.set(&Change { imds: Some(mode), ..Change::default() });
        imds(ImdsMode::Down);
        s.endpoints_appear();
        s.until_said("too little can be seen");
        imds(ImdsMode::Hang);
        s.after_tries(2);
        let [record] = &s.records(&events::BLOCKED)[..] else { panic!("said once: {}", s.said()) };
        assert!(record["HOSTAGENT_WHY"].as_str().is_some_and(|why| why.contains("169.254.169.254")), "{record}");
        s.says(1, &["status"], &["169.254.169.254"]);
        assert_eq!(s.agent(), agent);
        imds(ImdsMode::Up);
        s.is_moved_once(before);
        let agent = s.agent();
        imds(ImdsMode::Down);
        s.until_state("observing");
        imds(ImdsMode::Up);
        s.until_state("settled");
        assert_eq!(s.agent(), agent);
    });
}

#[test]
fn the_disk_is_full() {
    served("", |s| {
        // Small ones for the two directories; the service is given its own view of them when it starts.
        let small = "systemctl stop hostagent hostagent-nat.socket && \
            for d in /run/hostagent /var/lib/hostagent; do mount -t tmpfs -o size=512k tmpfs $d || exit 1; done && \
            systemctl start hostagent";
        s.host.sh(small).ok();
        s.until_state("observing");
        let (agent, before) = (s.agent(), s.registrations());
        let fill = |d: &str| s.host.sh(&format!("dd if=/dev/zero of={d}/fill bs=4k 2>/dev/null; test -e {d}/fill"));
        fill("/var/lib/hostagent").ok();
        fill("/run/hostagent").ok();
        s.endpoints_appear();
        s.until_said("what the service sees cannot be recorded");
        s.until_said("the run was lost: it could not be begun");
        assert!(s.said().contains("No space left on device"), "{}", s.said());
        assert_eq!(s.agent(), agent);
        s.host.sh("rm /var/lib/hostagent/fill /run/hostagent/fill").ok();
        // Full again in the middle of the next try: what the run comes to cannot be told, and is seen.
        s.host.until("the next try", |host| {
            host.sh("cat /run/hostagent/runs/*/progress.jsonl").stdout.contains("confirming").then_some(())
        });
        fill("/run/hostagent").ok();
        s.host.until("settled", |_| s.said().contains("settled: every").then_some(()));
        s.host.exec(&["rm", "/run/hostagent/fill"]).ok();
        s.until_said("what the service sees can be recorded again");
        s.until_state("settled");
        s.after_looks(2);
        s.is_private();
        s.is_whole();
        assert_eq!((s.registrations(), s.records(&events::RESTART_BEGUN).len()), (before + 1, 1), "{}", s.said());
    });
}

#[test]
fn a_disk_that_is_read_only_from_the_start() {
    served("", |s| {
        s.until_state("observing");
        let agent = s.agent();
        let read_only = "mount --rbind /var/lib /var/lib && mount -o remount,bind,ro /var/lib";
        // What is there already does not keep it from starting; it says what it cannot do.
        s.host.sh(&format!("systemctl stop hostagent && {read_only}")).ok();
        s.host.exec(&["systemctl", "start", "hostagent"]).ok();
        s.until_said("what the service sees cannot be recorded");
        s.endpoints_appear();
        s.until_said("nothing was touched: the agent cannot be moved safely: a restart must be recorded");
        assert_eq!(s.agent(), agent);
        // Where systemd cannot make the directory it says so, and the agent is left alone.
        let gone = "systemctl stop hostagent; mount -o remount,bind,rw /var/lib; rm -r /var/lib/hostagent; \
                    mount -o remount,bind,ro /var/lib; systemctl start hostagent";
        assert!(!s.host.sh(gone).success());
        let shown = s.host.exec(&["systemctl", "status", "hostagent"]).stdout;
        assert!(shown.contains("STATE_DIRECTORY"), "{shown}");
        assert_eq!(s.agent(), agent);
        s.host.sh("systemctl stop hostagent; mount -o remount,bind,rw /var/lib; umount -R -l /var/lib").ok();
        let before = s.registrations();
        s.host.exec(&["systemctl", "start", "hostagent"]).ok();
        s.is_moved_once(before);
    });
}
