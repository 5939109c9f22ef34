//! A service that books payments, for one caller only: the SPIFFE ID in `LEDGER_CALLER`.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use mayfly_client::{Peers, grpc};
use mayfly_mtls_services::v1::ledger_server::{Ledger, LedgerServer};
use mayfly_mtls_services::v1::{BookRequest, BookResponse};
use mayfly_mtls_services::{identity, say, setting};
use tonic::{Request, Response, Status};

#[derive(Debug, Default)]
struct Books(AtomicU64);

#[tonic::async_trait]
impl Ledger for Books {
    async fn book(&self, request: Request<BookRequest>) -> Result<Response<BookResponse>, Status> {
        let caller = grpc::peer(&request).ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let booked_by = caller.to_string();
        if request.into_inner().cents == 0 {
            return Err(Status::invalid_argument("nothing to book"));
        }
        let entries = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Response::new(BookResponse { booked_by, entries }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let caller = Peers::ids([setting("LEDGER_CALLER")?]);
    let listener = tokio::net::TcpListener::bind(setting::<String>("LEDGER_LISTEN")?).await?;
    let identity = identity().await?;
    say(&format!("listening on {}", listener.local_addr()?));
    let routes = tonic::service::Routes::new(LedgerServer::new(Books::default()));
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    grpc::serve(listener, &identity, caller, routes, stop).await?;
    identity.release().await.map_err(|e| e.to_string())?;
    Ok(())
}
