//! A disk that fails under SQLite: system calls of the running service are made to fail by strace. What was acknowledged is there
//! after a kill, and the service works again with no restart when the disk does.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::book::Book;
use super::load::Load;
use super::{assert_kept, assert_whole, prepared};
use crate::support::process::Process;
use crate::support::{Service, test_dir, wait};

/// What fails, and how.
const FAULTS: [&str; 2] = ["fsync,fdatasync:error=EIO", "pwrite64:error=ENOSPC"];

/// Makes a system call of a process fail until the value is dropped; `None`, with a plain message, where that is not possible.
async fn fail(pid: u32, fault: &str) -> Option<Process> {
    if !Path::new("/usr/bin/strace").exists() {
        eprintln!("SKIPPED: strace is not installed (Debian: apt-get install strace), so no disk fails.");
        return None;
    }
    let log = test_dir::file("strace", "log");
    let (call, _) = fault.split_once(':').expect("a system call and its error");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", &format!("trace={call}"), "-e", &format!("inject={fault}"), "-p"]);
    command.arg(pid.to_string());
    let mut strace = Process::start("strace", &mut command, &log);
    let attached = wait::until("strace has attached itself", async || {
        let text = strace.log_text();
        if text.contains(" attached") { Some(true) } else { strace.ended().map(|_| false) }
    })
    .await;
    if !attached {
        eprintln!("SKIPPED: strace may not attach itself here, so no disk fails ({}).", strace.log_text());
    }
    attached.then_some(strace)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_nothing_acknowledged_is_lost_when_the_disk_under_sqlite_fails_and_it_heals_with_no_restart()
{
    let mut service = Service::start().await;
    let admin = prepared(&service).await;
    let book = Arc::<Book>::default();
    for (number, fault) in FAULTS.into_iter().enumerate() {
        let load = Load::start(&admin, &book, &format!("disk-{number}"));
        load.gets_on(20).await;
        let Some(mut strace) = fail(service.process().id(), fault).await else {
            return load.end().await;
        };
        wait::until("changes are refused", async || (load.unavailable() >= 5).then_some(())).await;
        strace.signal("INT");
        strace.wait().await;
        load.gets_on(20).await;
        service.process().assert_running();
        println!("{fault}: {} answers were 503 or 507", load.unavailable());
        service.kill().await;
        load.end().await;
        service.start_again().await;
        assert_kept(&service, &book, 0).await;
    }
    let url = service.database_url().to_owned();
    assert_whole(&service, &admin, &url, &book).await;
}
