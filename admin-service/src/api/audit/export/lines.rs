//! A body of as many lines as there are entries: read page by page as the client takes them, so that no more than a few
//! pages are ever in memory.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

use crate::api::audit::AuditBody;
use crate::domain::audit::{AuditEntry, AuditFilter, AuditId};
use crate::store::{Store, StoreError};

/// What a body of JSON Lines is called.
pub(super) const CONTENT_TYPE_OF_LINES: &str = "application/x-ndjson";
/// How many entries are read at a time.
const PAGE: u32 = 500;

/// The export was broken off. The client sees a body without its end.
#[derive(Debug, thiserror::Error)]
#[error("the export was broken off")]
pub(super) struct BrokenOff;

/// The lines, page by page.
pub(super) struct Pages(mpsc::Receiver<Result<Bytes, BrokenOff>>);

impl Pages {
    /// Reads the first page, and goes on with the next ones for as long as somebody takes them.
    pub async fn begin(store: Store, filter: AuditFilter) -> Result<Self, StoreError> {
        let first = store.audit_after(&filter, None, PAGE).await?;
        let (sender, pages) = mpsc::channel(1);
        tokio::spawn(send(store, filter, first, sender));
        Ok(Self(pages))
    }
}

impl Body for Pages {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.0.poll_recv(context).map(|page| page.map(|page| page.map(Frame::data)))
    }
}

/// Sends page after page, until there are no more or nobody takes them.
async fn send(
    store: Store,
    filter: AuditFilter,
    mut page: Vec<AuditEntry>,
    sender: mpsc::Sender<Result<Bytes, BrokenOff>>,
) {
    while let Some(last) = page.last().map(|entry| entry.id) {
        let whole = page.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
        if sender.send(lines(page)).await.is_err() || !whole {
            return;
        }
        // Only when the one before is taken is the next page read: who takes nothing costs two.
        let Ok(room) = sender.reserve().await else { return };
        drop(room);
        page = match next(&store, &filter, last).await {
            Ok(next) => next,
            Err(broken_off) => {
                // Where the client is gone, nobody need be told.
                let _ = sender.send(Err(broken_off)).await;
                return;
            }
        };
    }
}

async fn next(store: &Store, filter: &AuditFilter, last: AuditId) -> Result<Vec<AuditEntry>, BrokenOff> {
    store.audit_after(filter, Some(last), PAGE).await.map_err(|error| {
        tracing::warn!(cause = crate::error::chain(&error), "an export of the audit log was broken off");
        BrokenOff
    })
}

fn lines(page: Vec<AuditEntry>) -> Result<Bytes, BrokenOff> {
    let mut lines = Vec::new();
    for entry in page {
        serde_json::to_writer(&mut lines, &AuditBody::from(entry)).map_err(|_| BrokenOff)?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}
