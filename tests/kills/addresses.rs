//! The addresses of a relay's machine are taken away while it runs, and it gets others: those of the relay that dialled, and then
//! those of the other one.
//!
//! This needs a network of its own, in which each relay has its own machine: without root it is skipped with a word, unless `CI`
//! is in the environment. The test runs itself again in there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::relays::Plan;
use crate::scene::{BACK, Scene, THERE};
use crate::servers::PACE;

/// In the environment: the network is ours.
const INSIDE: &str = "FEDMUX_OWN_NETWORK";
const NAME: &str = "addresses::stanzas_survive_when_the_addresses_of_either_relay_change";
/// Stanzas of each pair that arrive in between.
const STANZAS: usize = 100;
/// What the first relay finds the second by.
const PEER: &str = "relay.b.test";

/// Run a command of the system.
fn run(words: &str) {
    let mut each = words.split(' ');
    let done = Command::new(each.next().unwrap()).args(each).output().unwrap();
    assert!(done.status.success(), "{words}: {done:?}");
}

/// Another network, linked to ours: the machine of the first relay. It ends with the process that is in it.
struct Machine(Child);

impl Machine {
    fn new() -> Self {
        let mut waits = Command::new("unshare");
        let process =
            waits.args(["--net", "sh", "-c", "echo; read end"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = process.spawn().unwrap();
        let mut said = [0];
        std::io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut said).unwrap();
        run("ip link set lo up");
        run("ip link add vb type veth peer name va");
        run(&format!("ip link set va netns {}", process.id()));
        for address in ["10.77.1.1", "10.77.2.1"] {
            run(&format!("ip address add {address}/24 dev vb"));
        }
        run("ip link set vb up");
        let machine = Self(process);
        machine.run("ip link set lo up");
        for address in ["10.77.1.2", "10.77.2.2"] {
            machine.run(&format!("ip address add {address}/24 dev va"));
        }
        machine.run("ip link set va up");
        machine
    }

    fn run(&self, words: &str) {
        run(&format!("nsenter -t {} -n {words}", self.0.id()));
    }

    /// What runs a program there, with these names of hosts.
    fn within(&self, hosts: &Path) -> Vec<String> {
        let script = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", hosts.display());
        let id = self.0.id().to_string();
        let words = ["nsenter", "-t", &id, "-n", "unshare", "--mount", "sh", "-c", &script];
        words.map(str::to_owned).to_vec()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = (self.0.kill(), self.0.wait());
    }
}

/// Whether this is the test in a network of its own; else it is run there, or not at all.
fn is_inside() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let ours = Command::new("unshare").args(["--net", "--mount", "ip", "link", "set", "lo", "up"]).output();
    if !ours.is_ok_and(|done| done.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "there is no network of our own");
        println!("skipped: it needs a network of its own, which is root's to make");
        return false;
    }
    let test = std::env::current_exe().unwrap();
    let inside = Command::new("unshare")
        .args(["--net", "--mount"])
        .arg(test)
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    print!("{}{}", String::from_utf8_lossy(&inside.stdout), String::from_utf8_lossy(&inside.stderr));
    assert!(inside.status.success());
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stanzas_survive_when_the_addresses_of_either_relay_change() {
    if !is_inside() {
        return;
    }
    let machine = Machine::new();
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, format!("10.77.2.1 {PEER}\n")).unwrap();
    let mut plan = Plan::new("path_idle = \"3s\"");
    let at = |ip: &str, of: SocketAddr| SocketAddr::new(ip.parse().unwrap(), of.port());
    plan.quic = plan.quic.map(|quic| at("0.0.0.0", quic));
    plan.s2s[0] = at("10.77.1.2", plan.s2s[0]);
    plan.admin[0] = at("10.77.1.2", plan.admin[0]);
    plan.servers[0] = at("10.77.1.1", plan.servers[0]);
    plan.peers = [format!("{PEER}:{}", plan.quic[1].port()), at("10.77.2.2", plan.quic[0]).to_string()];
    plan.within[0] = machine.within(&hosts);
    let mut scene = Scene::set(plan);
    for pair in THERE {
        scene.send(pair, PACE);
    }
    scene.flows(1).await;
    scene.send(BACK, PACE);
    scene.flows(STANZAS).await;
    let of_both = async |name| scene.relays.sum(name, &[]).await;

    // Of the one that dialled: its connection goes on from there.
    machine.run("ip address delete 10.77.2.2/24 dev va");
    machine.run("ip address add 10.77.2.3/24 dev va");
    scene.flows(STANZAS).await;
    assert_eq!(of_both("fedmux_connections_opened_total").await, 2.0, "one, counted at both ends");
    let seen = async {
        while of_both("fedmux_quic_migrations_total").await == 0.0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    crate::support::soon("the move to be counted", seen).await;

    // Of the other: there is another connection, and the streams go on there.
    std::fs::write(&hosts, format!("10.77.2.9 {PEER}\n")).unwrap();
    run("ip address delete 10.77.2.1/24 dev vb");
    run("ip address add 10.77.2.9/24 dev vb");
    scene.flows(STANZAS).await;
    let resumed = of_both("fedmux_streams_resumed_total").await;
    println!("{resumed} streams were resumed, counted at both ends");
    assert!(resumed > 0.0 && of_both("fedmux_connections_opened_total").await > 2.0);
    let figures = scene.ends(0.0).await;
    assert_eq!((figures.delivered, figures.twice, figures.uncertain), (figures.sent, 0, 0.0));
}
