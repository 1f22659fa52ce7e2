//! A relay of TCP connections that a test can cut, hold up and slow down: for a part of the service that is out of reach or
//! late while the rest is not. What clients send always goes on at once; what the server sends is the test's to delay.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::wait;

/// What becomes of what the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Relayed,
    Held,
    Late(Duration),
    Cut,
}

/// A running relay.
pub struct Relay {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    manner: watch::Sender<Manner>,
    told: Arc<Mutex<Vec<Instant>>>,
    serving: JoinHandle<()>,
}

impl Relay {
    /// Relays to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the relay");
        let address = listener.local_addr().expect("the relay's address");
        let (manner, wanted) = watch::channel(Manner::Relayed);
        let told = Arc::<Mutex<Vec<Instant>>>::default();
        let (target, targets) = watch::channel(target);
        let serving = tokio::spawn(serve(listener, targets, wanted, Arc::clone(&told)));
        Self { address, target, manner, told, serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and each new one at once; what was held is lost.
    pub fn cut(&self) {
        self.manner.send_replace(Manner::Cut);
    }

    /// Relays to another target from now on; connections to the one before stay.
    pub fn move_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Keeps what the server sends, until told otherwise.
    pub fn hold(&self) {
        self.manner.send_replace(Manner::Held);
    }

    /// Brings what the server sends so much later.
    pub fn delay(&self, by: Duration) {
        self.manner.send_replace(Manner::Late(by));
    }

    /// Relays again, what was held first.
    pub fn mend(&self) {
        self.manner.send_replace(Manner::Relayed);
    }

    /// For each connection to which an answer has gone on, when the last one did: just before it was written.
    pub fn told(&self) -> Vec<Instant> {
        self.told.lock().expect("the times").clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    targets: watch::Receiver<SocketAddr>,
    wanted: watch::Receiver<Manner>,
    told: Arc<Mutex<Vec<Instant>>>,
) {
    // The set ends what it holds when the relay is dropped.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (wanted, mut cut, told) = (wanted.clone(), wanted.clone(), Arc::clone(&told));
        let target = *targets.borrow();
        connections.spawn(async move {
            tokio::select! {
                () = relay(client, target, wanted, told) => {}
                _ = cut.wait_for(|manner| *manner == Manner::Cut) => {}
            }
        });
    }
}

async fn relay(
    client: TcpStream,
    target: SocketAddr,
    mut wanted: watch::Receiver<Manner>,
    told: Arc<Mutex<Vec<Instant>>>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let up = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(|_| ()) };
    let read = async {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let count = from_server.read(&mut bytes).await?;
            if count == 0 || arrived.send((wait::now(), bytes[..count].to_vec())).is_err() {
                return Ok::<(), std::io::Error>(());
            }
        }
    };
    let mut place = None;
    let write = async {
        while let Some((at, bytes)) = arrivals.recv().await {
            until_due(&mut wanted, at).await;
            note(&told, &mut place, &bytes);
            to_client.write_all(&bytes).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    // Whichever ends first, the connection does.
    tokio::select! { _ = up => {}, _ = read => {}, _ = write => {} }
}

/// Waits until what has arrived at a time is to go on.
async fn until_due(wanted: &mut watch::Receiver<Manner>, arrived: Instant) {
    loop {
        let late = match *wanted.borrow_and_update() {
            Manner::Relayed => return,
            Manner::Late(by) => Some(by),
            Manner::Held | Manner::Cut => None,
        };
        let due = async {
            match late {
                Some(by) => tokio::time::sleep_until((arrived + by).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => return,
            _ = wanted.changed() => {}
        }
    }
}

/// Notes when a connection was sent an answer. What fits into a few frames of HTTP/2 with nothing in them is none.
fn note(told: &Mutex<Vec<Instant>>, place: &mut Option<usize>, bytes: &[u8]) {
    const LARGEST_WITHOUT_ANSWER: usize = 64;
    if bytes.len() > LARGEST_WITHOUT_ANSWER {
        let mut told = told.lock().expect("the times");
        let place = *place.get_or_insert_with(|| {
            told.push(wait::now());
            told.len() - 1
        });
        told[place] = wait::now();
    }
}
