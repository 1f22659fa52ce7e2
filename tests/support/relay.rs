//! A relay of TCP connections that a test can cut, hold up and slow down: for a part of the service that is out of reach or
//! late while the rest is not. What clients send goes on at once, but for a thin line's latency; what the server sends is the
//! test's to delay.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::wait;

/// What becomes of what the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Relayed,
    Held,
    /// Relayed, up to and with the piece that has these bytes; then held.
    HeldAfter(&'static [u8]),
    Late(Duration),
    Line(Line),
    Cut,
}

/// A line that all connections share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    bytes_per_second: u32,
    /// From one end to the other.
    latency: Duration,
}

/// What the connections of a relay have in common.
#[derive(Clone)]
struct Common {
    manner: watch::Sender<Manner>,
    told: Arc<Mutex<Vec<Instant>>>,
    /// When the line has sent all that it was given.
    line_free: Arc<Mutex<Instant>>,
}

/// A running relay.
pub struct Relay {
    address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    common: Common,
    serving: JoinHandle<()>,
}

impl Relay {
    /// Relays to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the relay");
        let address = listener.local_addr().expect("the relay's address");
        let manner = watch::Sender::new(Manner::Relayed);
        let line_free = Arc::new(Mutex::new(wait::now()));
        let common = Common { manner, told: Arc::default(), line_free };
        let (target, targets) = watch::channel(target);
        let serving = tokio::spawn(serve(listener, targets, common.clone()));
        Self { address, target, common, serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and each new one at once; what was held is lost.
    pub fn cut(&self) {
        self.common.manner.send_replace(Manner::Cut);
    }

    /// Relays to another target from now on; connections to the one before stay.
    pub fn move_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Keeps what the server sends, until told otherwise.
    pub fn hold(&self) {
        self.common.manner.send_replace(Manner::Held);
    }

    /// Lets the next piece through that has these bytes, and then holds, on every connection.
    pub fn hold_after(&self, bytes: &'static [u8]) {
        self.common.manner.send_replace(Manner::HeldAfter(bytes));
    }

    /// Whether what the server sends is held.
    pub fn is_holding(&self) -> bool {
        *self.common.manner.borrow() == Manner::Held
    }

    /// Brings what the server sends so much later.
    pub fn delay(&self, by: Duration) {
        self.common.manner.send_replace(Manner::Late(by));
    }

    /// Has all connections share one line: so many bytes a second towards the clients, in the order in which they come, and so much
    /// time for the way there and back.
    pub fn thin_line(&self, bytes_per_second: u32, round_trip: Duration) {
        let line = Line { bytes_per_second, latency: round_trip / 2 };
        self.common.manner.send_replace(Manner::Line(line));
    }

    /// Relays again, what was held first.
    pub fn mend(&self) {
        self.common.manner.send_replace(Manner::Relayed);
    }

    /// For each connection to which an answer has gone on, when the last one did: just before it was written.
    pub fn told(&self) -> Vec<Instant> {
        self.common.told.lock().expect("the times").clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, targets: watch::Receiver<SocketAddr>, common: Common) {
    // The set ends what it holds when the relay is dropped.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (common, mut cut) = (common.clone(), common.manner.subscribe());
        let target = *targets.borrow();
        connections.spawn(async move {
            tokio::select! {
                () = relay(client, target, common) => {}
                _ = cut.wait_for(|manner| *manner == Manner::Cut) => {}
            }
        });
    }
}

async fn relay(client: TcpStream, target: SocketAddr, common: Common) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (arrived_up, mut arrivals_up) = mpsc::unbounded_channel();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let read_up = read(&mut from_client, &arrived_up, |_| common.up());
    let read_down = read(&mut from_server, &arrived, |count| common.down(count));
    let write_up = async {
        while let Some((due, bytes)) = arrivals_up.recv().await {
            tokio::time::sleep_until(due.into()).await;
            to_server.write_all(&bytes).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    let (mut place, mut wanted) = (None, common.manner.subscribe());
    let write_down = async {
        while let Some((due, bytes)) = arrivals.recv().await {
            until_due(&mut wanted, due).await;
            common.hold_after(&bytes);
            note(&common.told, &mut place, &bytes);
            to_client.write_all(&bytes).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    // Whichever ends first, the connection does.
    tokio::select! { _ = read_up => {}, _ = read_down => {}, _ = write_up => {}, _ = write_down => {} }
}

/// Reads what comes, piece by piece, each with the time from which on it may go on.
async fn read(
    from: &mut (impl AsyncRead + Unpin),
    to: &mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    due: impl Fn(usize) -> Instant,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 || to.send((due(count), bytes[..count].to_vec())).is_err() {
            return Ok(());
        }
    }
}

impl Common {
    /// When a piece goes on to the server that has come just now.
    fn up(&self) -> Instant {
        match *self.manner.borrow() {
            Manner::Line(line) => wait::now() + line.latency,
            _ => wait::now(),
        }
    }

    /// When a piece goes on to the client that has come just now: on a line, when all that was before it is through.
    fn down(&self, count: usize) -> Instant {
        let Manner::Line(line) = *self.manner.borrow() else { return wait::now() };
        let mut free = self.line_free.lock().expect("the time");
        let takes = Duration::from_secs_f64(count as f64 / f64::from(line.bytes_per_second));
        *free = (*free).max(wait::now()) + takes;
        *free + line.latency
    }

    /// Holds from now on, if these are the bytes after which that is wanted; they themselves go on.
    fn hold_after(&self, bytes: &[u8]) {
        self.manner.send_if_modified(|manner| {
            let wanted =
                matches!(manner, Manner::HeldAfter(part) if bytes.windows(part.len()).any(|it| it == *part));
            if wanted {
                *manner = Manner::Held;
            }
            wanted
        });
    }
}

/// Waits until what may go on from a time on is to go on.
async fn until_due(wanted: &mut watch::Receiver<Manner>, from: Instant) {
    loop {
        let due = match *wanted.borrow_and_update() {
            Manner::Relayed | Manner::HeldAfter(_) => return,
            Manner::Late(by) => Some(from + by),
            Manner::Line(_) => Some(from),
            Manner::Held | Manner::Cut => None,
        };
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
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
