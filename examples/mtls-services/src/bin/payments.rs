//! A service that books `PAYMENTS` payments at the ledger of `LEDGER_URL`, which must be the SPIFFE ID in `LEDGER_ID`,
//! and says how many of them failed. Its certificate changes while it works.

use std::error::Error;

use futures::StreamExt as _;
use mayfly_client::Peers;
use mayfly_mtls_services::v1::BookRequest;
use mayfly_mtls_services::v1::ledger_client::LedgerClient;
use mayfly_mtls_services::{identity, say, setting};

/// Payments under way at once.
const AT_ONCE: usize = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let payments: u64 = setting("PAYMENTS")?;
    let identity = identity().await?;
    let peer = Peers::ids([setting("LEDGER_ID")?]);
    let channel = identity.channel(&setting("LEDGER_URL")?, peer).await?;
    let client = LedgerClient::new(channel);
    let failed = futures::stream::iter(1..=payments)
        .map(|cents| {
            let mut client = client.clone();
            async move { client.book(BookRequest { cents }).await }
        })
        .buffer_unordered(AT_ONCE)
        .fold(0_u64, async |failed, answer| match answer {
            Ok(_) => failed,
            Err(status) => {
                say(&format!("a payment failed: {status}"));
                failed + 1
            }
        })
        .await;
    say(&format!("{payments} payments, {failed} failed"));
    identity.release().await.map_err(|e| e.to_string())?;
    if failed == 0 { Ok(()) } else { Err(format!("{failed} payments failed").into()) }
}
