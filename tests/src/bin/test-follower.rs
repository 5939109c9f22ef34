//! A service that follows the feed, as a process of its own that a test may stop: it answers over a local socket
//! whether it accepts a credential, and how far it has come. Nothing ships from here.
//!
//! A question is one octet (1: a token and its proof, separated by a line feed; 2: a certificate; 3: nothing, only how
//! far), the length of what follows in 4 octets, and that. An answer is one octet for accepted, the milliseconds for which
//! it is fresh and the position's number in 8 octets each, and the reason of a refusal, with its length in one octet in
//! front.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use mayfly_client::{Pin, Target};
use mayfly_domain::{Reason, Refusal, TrustDomain};
use mayfly_verify::{Request, Usage, Verifier};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// The URL that proofs are for.
const API: &str = "https://api.acme.internal/";
const QUESTION_OCTETS_MAX: u32 = 64 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or_else(|| format!("{what} is missing"));
    let target = Target {
        name: "follower".to_owned(),
        trust_domain: Some(TrustDomain::parse(&next("TRUST_DOMAIN")?)?),
        pin: Pin::from_file(&PathBuf::from(next("CA_FILE")?))?,
        identity: Some((next("CERT_FILE")?.into(), next("KEY_FILE")?.into())),
        url: Url::parse("https://127.0.0.1")?,
    };
    let bound = Duration::from_millis(next("BOUND_MS")?.parse()?);
    let mut urls = arguments.map(|url| Url::parse(&url)).collect::<Result<Vec<_>, _>>()?.into_iter();
    let url = urls.next().ok_or("URL is missing")?;
    let verifier = Verifier::builder(Target { url, ..target }).or_at(urls).bound(bound).start()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(stream, verifier.clone()));
    }
}

async fn answer(mut stream: TcpStream, verifier: Verifier) -> Result<(), Box<dyn Error + Send + Sync>> {
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        if length > QUESTION_OCTETS_MAX {
            return Err("too long".into());
        }
        let mut asked = Vec::new();
        (&mut stream).take(length.into()).read_to_end(&mut asked).await?;
        let judged = match kind {
            1 => token(&verifier, &asked),
            2 => verifier.check_certificate(&asked, Usage::Client).map(drop),
            _ => Ok(()),
        };
        // Read after the judgement: what was accepted was accepted at this place or an earlier one.
        let place = verifier.freshness();
        let reason = judged.err().map_or("", |refusal| refusal.reason.as_str());
        let mut out = vec![u8::from(reason.is_empty())];
        out.extend(u64::try_from(place.left.as_millis())?.to_be_bytes());
        out.extend(place.number.to_be_bytes());
        out.push(u8::try_from(reason.len())?);
        out.extend(reason.bytes());
        stream.write_all(&out).await?;
    }
}

fn token(verifier: &Verifier, asked: &[u8]) -> Result<(), Refusal> {
    let text = std::str::from_utf8(asked).map_err(|_| Reason::InputInvalid)?;
    let (token, proof) = text.split_once('\n').ok_or(Reason::InputInvalid)?;
    let dpop = Some(proof).filter(|proof| !proof.is_empty());
    verifier.check_token(token, &Request { method: "GET", url: API, dpop, ..Request::default() }).map(drop)
}
