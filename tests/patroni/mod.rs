//! PostgreSQL under Patroni: switch-overs and the sudden end of the leader under load, with one replica of the service that reaches
//! its database by HAProxy and one that is told of both servers. LATCHKEY_SOAK_SWITCHOVERS and LATCHKEY_SOAK_LEADER_KILLS say how
//! many; `make soak` does 10 and 5.

mod cluster;
mod watch;

use std::sync::Arc;

use crate::kills::book::Book;
use crate::kills::load::Load;
use crate::kills::{allow_everything, assert_kept, assert_whole, times};
use crate::support::{Service, World, wait};
use cluster::PatroniCluster;
use watch::{Place, Watch};

/// How many changes are acknowledged at each replica before the next thing happens.
const CHANGES: usize = 40;

/// Both replicas' clients.
struct Loads([Load; 2]);

impl Loads {
    async fn get_on(&self) {
        for load in &self.0 {
            load.gets_on(CHANGES).await;
        }
    }

    /// Waits until writes go on at both, and says how long that took since something began.
    async fn resume(&self, what: &str, act: impl Future<Output = ()>) {
        let begun = wait::now();
        act.await;
        let acted = begun.elapsed();
        for (load, by) in self.0.iter().zip(["HAProxy", "both names"]) {
            load.gets_on(1).await;
            println!(
                "{what}: done after {acted:?}; writes by {by} went on {:?} after it began",
                begun.elapsed()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_under_patroni_nothing_is_lost_or_revived_by_switch_overs_and_the_end_of_the_leader() {
    if !cluster::is_installed() {
        return;
    }
    let mut cluster = PatroniCluster::start().await;
    let world = World::around(Service::on(&cluster.url_by_proxy()).await, |config| config).await;
    let mut other = Service::on(&cluster.url_of_both()).await;
    let admin = allow_everything(world.admin.clone()).await;
    let book = Arc::<Book>::default();
    let places = vec![
        ("the edge API by HAProxy", Place::Edge(world.service.edge())),
        ("the edge API by both names", Place::Edge(other.edge())),
        ("Envoy", Place::Gateway(world.envoy.http1())),
    ];
    let loads = Loads([
        Load::start(&admin, &book, "proxy"),
        Load::start(&other.admin_with(&admin.token), &book, "both"),
    ]);
    let watch = Watch::start(&book, places);
    loads.get_on().await;
    for number in 0..times("LATCHKEY_SOAK_SWITCHOVERS", 1) {
        loads.resume(&format!("switch-over {number}"), cluster.switch_over()).await;
        loads.get_on().await;
        cluster.until_synchronous().await;
    }
    for number in 0..times("LATCHKEY_SOAK_LEADER_KILLS", 1) {
        let mut killed = 0;
        let act = async { killed = cluster.kill_leader().await };
        loads.resume(&format!("kill {number}"), act).await;
        loads.get_on().await;
        cluster.start_again(killed);
        cluster.until_synchronous().await;
    }
    println!("{:?} answers were 503", loads.0.each_ref().map(Load::unavailable));
    for load in loads.0 {
        load.end().await;
    }
    watch.end().await;
    other.process().assert_running();
    assert_kept(&other, &book, 0).await;
    assert_whole(&world.service, &admin, &cluster.url_of_leader().await, &book).await;
}
