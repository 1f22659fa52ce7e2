//! A relay of TCP connections that a test can cut: for a part of the service that is out of reach while the rest is not.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running relay.
pub struct Relay {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Relay {
    /// Relays to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the relay");
        let address = listener.local_addr().expect("the relay's address");
        let (cut, is_cut) = watch::channel(false);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, is_cut.clone()));
            }
        });
        Self { address, cut, serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and each new one at once.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Relays again.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, mut is_cut: watch::Receiver<bool>) {
    let relayed = async {
        if let Ok(mut server) = TcpStream::connect(target).await {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    };
    tokio::select! {
        () = relayed => {}
        _ = is_cut.wait_for(|cut| *cut) => {}
    }
}
