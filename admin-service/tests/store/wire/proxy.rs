//! A proxy that speaks PostgreSQL's protocol (version 3) between a store and a real server, and spoils one transaction at a
//! chosen point.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// Where in a transaction something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// In the place of this request, which the server does not get: 0 is `BEGIN`, then whatever comes before `COMMIT`.
    Request(usize),
    /// In the place of `COMMIT`, which the server does not get: it rolls back.
    InsteadOfCommit,
    /// In the place of the answer to `COMMIT`, which the server has carried out.
    AfterCommit,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error of this SQLSTATE; the connection stays.
    Error(&'static str),
    /// An error of this SQLSTATE with which the server ends the connection.
    Fatal(&'static str),
    /// The connection ends with no word.
    Cut,
}

/// What is to be spoiled, and how many connections are to be refused with 53300.
#[derive(Debug, Default)]
struct Orders {
    fault: Option<(Point, Fault)>,
    refused: usize,
}

type Shared = Arc<Mutex<Orders>>;

/// A running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    orders: Shared,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Before the server of this socket.
    pub async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Shared::default();
        let serving = tokio::spawn(serve(listener, socket, Arc::clone(&orders)));
        Self { address, orders, serving }
    }

    /// Spoils the next transaction.
    pub fn spoil(&self, point: Point, fault: Fault) {
        self.orders.lock().unwrap().fault = Some((point, fault));
    }

    /// Whether the point was not reached; nothing is spoiled from now on.
    pub fn is_unspoilt(&self) -> bool {
        self.orders.lock().unwrap().fault.take().is_some()
    }

    /// Refuses so many connections as a server does that has no more places.
    pub fn refuse(&self, connections: usize) {
        self.orders.lock().unwrap().refused = connections;
    }

    /// How many of those were not asked for yet.
    pub fn left_to_refuse(&self) -> usize {
        self.orders.lock().unwrap().refused
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, socket: PathBuf, orders: Shared) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (socket, orders) = (socket.clone(), Arc::clone(&orders));
        connections.spawn(async move {
            let _ = connect(client, socket, orders).await;
        });
    }
}

/// The first message of a client has no type. A session ends with either side.
async fn connect(mut client: TcpStream, socket: PathBuf, orders: Shared) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut start = length.to_be_bytes().to_vec();
    start.resize(length as usize, 0);
    client.read_exact(&mut start[4..]).await?;
    let refuse = {
        let mut orders = orders.lock().unwrap();
        let refuse = orders.refused > 0;
        orders.refused -= usize::from(refuse);
        refuse
    };
    if refuse {
        return client.write_all(&error("FATAL", "53300")).await;
    }
    let server = UnixStream::connect(socket).await?;
    let mut session = Session { client, server, orders, requests: None };
    session.server.write_all(&start).await?;
    // No password is asked for: what comes is said once, and ends with the server being ready.
    let welcome = session.answer().await?;
    session.client.write_all(&welcome).await?;
    while session.request().await? {}
    Ok(())
}

/// One connection, of which each side waits for the other in turn.
struct Session {
    client: TcpStream,
    server: UnixStream,
    orders: Shared,
    /// How many requests the transaction under way has had.
    requests: Option<usize>,
}

/// What the server gets at once, and answers up to `ReadyForQuery`.
struct Request {
    bytes: Vec<u8>,
    /// The text of a simple query.
    text: Option<String>,
}

impl Session {
    /// Relays a request and its answer, or spoils it; `false`: the connection has ended.
    async fn request(&mut self) -> std::io::Result<bool> {
        let Some(request) = self.read_request().await? else { return Ok(false) };
        let text = request.text.as_deref().unwrap_or_default();
        let (begins, commits) = (text.starts_with("BEGIN"), text.starts_with("COMMIT"));
        if begins {
            self.requests = Some(0);
        }
        let point = match self.requests {
            Some(_) if commits => None,
            Some(number) => Some(Point::Request(number)),
            None => return self.relay(&request).await,
        };
        if commits || text.starts_with("ROLLBACK") {
            self.requests = None;
        } else {
            self.requests = self.requests.map(|number| number + 1);
        }
        let due = {
            let mut orders = self.orders.lock().unwrap();
            let is_here = |(at, _): &mut (Point, Fault)| match point {
                Some(point) => *at == point && self.requests.is_some(),
                None => !matches!(at, Point::Request(_)),
            };
            orders.fault.take_if(is_here)
        };
        match due {
            None => self.relay(&request).await,
            Some((at, fault)) => self.spoil(&request, at, fault, begins).await,
        }
    }

    async fn relay(&mut self, request: &Request) -> std::io::Result<bool> {
        self.server.write_all(&request.bytes).await?;
        let answer = self.answer().await?;
        self.client.write_all(&answer).await?;
        Ok(true)
    }

    async fn spoil(
        &mut self,
        request: &Request,
        at: Point,
        fault: Fault,
        begins: bool,
    ) -> std::io::Result<bool> {
        if at == Point::AfterCommit {
            self.server.write_all(&request.bytes).await?;
            self.answer().await?;
        }
        let code = match fault {
            Fault::Cut => return Ok(false),
            Fault::Fatal(code) => {
                self.client.write_all(&error("FATAL", code)).await?;
                return Ok(false);
            }
            Fault::Error(code) => code,
        };
        assert_ne!(at, Point::AfterCommit, "no server refuses what it has carried out");
        if at == Point::InsteadOfCommit {
            self.server.write_all(&message(b'Q', b"ROLLBACK\0")).await?;
            self.answer().await?;
        }
        // In a transaction that has failed, or in none.
        let outside = begins || at == Point::InsteadOfCommit;
        if begins {
            self.requests = None;
        }
        let ready = message(b'Z', if outside { b"I" } else { b"E" });
        self.client.write_all(&[error("ERROR", code), ready].concat()).await?;
        Ok(true)
    }

    /// The messages up to `Sync`, or a simple query; `None` when the client takes leave.
    async fn read_request(&mut self) -> std::io::Result<Option<Request>> {
        let mut bytes = Vec::new();
        loop {
            let message = read(&mut self.client).await?;
            bytes.extend(&message.whole);
            match message.kind {
                b'Q' => {
                    let text = String::from_utf8_lossy(&message.whole[5..]).into_owned();
                    return Ok(Some(Request { bytes, text: Some(text) }));
                }
                b'S' => return Ok(Some(Request { bytes, text: None })),
                b'X' => return Ok(None),
                _ => {}
            }
        }
    }

    /// What the server says up to `ReadyForQuery`, or up to its end.
    async fn answer(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let message = match read(&mut self.server).await {
                // Its last words.
                Err(_) if !bytes.is_empty() => return Ok(bytes),
                message => message?,
            };
            bytes.extend(&message.whole);
            if message.kind == b'Z' {
                return Ok(bytes);
            }
        }
    }
}

/// A message with its type.
struct Message {
    kind: u8,
    whole: Vec<u8>,
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Message> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut whole = vec![kind];
    whole.extend(length.to_be_bytes());
    whole.resize(1 + length as usize, 0);
    from.read_exact(&mut whole[5..]).await?;
    Ok(Message { kind, whole })
}

/// An `ErrorResponse` as PostgreSQL 15 writes it.
fn error(severity: &str, code: &str) -> Vec<u8> {
    let fields = [('S', severity), ('V', severity), ('C', code), ('M', "the proxy of a test says so")];
    let mut body: Vec<u8> =
        fields.iter().flat_map(|(kind, text)| format!("{kind}{text}\0").into_bytes()).collect();
    body.push(0);
    message(b'E', &body)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}
