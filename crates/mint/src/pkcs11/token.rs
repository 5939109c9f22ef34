//! The token behind the keys: library, login and sessions, made anew by themselves when they fail.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use mayfly_domain::{Deadline, Reason, Refusal, Secret};
use parking_lot::{Mutex, RwLock};
use ring::digest::{SHA256, digest};

use super::ModuleSettings;

/// How long after a failure the library is not initialised again.
const PAUSE: Duration = Duration::from_millis(500);
/// Sessions that are kept for the next call.
const IDLE_MAX: usize = 16;
/// The longest PIN, in octets.
const PIN_OCTETS_MAX: usize = 256;

/// Why something could not be done with the token.
#[derive(Debug)]
pub(super) enum Failed {
    /// The module said so.
    Module(Error),
    /// The key is not what it must be.
    Key(&'static str),
    /// The PIN can't be read, or was refused before.
    Pin(String),
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Self::Module(e)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Module(e) => e.fmt(f),
            Self::Key(why) => f.write_str(why),
            Self::Pin(why) => f.write_str(why),
        }
    }
}

/// A session that is logged in, with the keys that were found in it.
pub(super) struct Open {
    pub(super) session: Session,
    pub(super) keys: HashMap<[u8; 16], ObjectHandle>,
}

/// A token.
pub(super) struct Token {
    settings: ModuleSettings,
    // Readers use it; who holds it for writing may finalise it, when no session is open.
    library: RwLock<Option<Pkcs11>>,
    idle: Mutex<Vec<Open>>,
    paused: Mutex<Option<Deadline>>,
    refused_pin: Mutex<Option<[u8; 32]>>,
    /// How often the library was initialised.
    loads: AtomicU64,
    away: AtomicBool,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A refusal that says why the token can't be used, and when to try again.
pub(super) fn unavailable(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::SignerUnavailable, format!("PKCS #11: {why}")).after(Duration::from_secs(1))
}

impl Token {
    pub(super) fn new(settings: ModuleSettings) -> Self {
        Self {
            settings,
            library: RwLock::default(),
            idle: Mutex::default(),
            paused: Mutex::default(),
            refused_pin: Mutex::default(),
            loads: AtomicU64::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// Does `work` in a session: one that is open, else a new one, else after the library was initialised anew.
    pub(super) fn with<T>(&self, work: impl Fn(&mut Open) -> Result<T, Failed>) -> Result<T, Refusal> {
        let loads = self.loads.load(Ordering::Acquire);
        let done = self.in_a_session(&work).or_else(|failed| self.anew(failed, loads, &work));
        match &done {
            Ok(_) => {
                if self.away.swap(false, Ordering::AcqRel) {
                    tracing::info!(token = self.settings.token, "the PKCS #11 token is back");
                }
            }
            Err(failed) => {
                if !self.away.swap(true, Ordering::AcqRel) {
                    tracing::error!(token = self.settings.token, error = %failed, "the PKCS #11 token can't be used");
                }
            }
        }
        done.map_err(unavailable)
    }

    fn in_a_session<T>(&self, work: &impl Fn(&mut Open) -> Result<T, Failed>) -> Result<T, Failed> {
        let library = self.library.read();
        let library = library.as_ref().ok_or(Failed::Key("the module could not be loaded a moment ago"))?;
        let idle = self.idle.lock().pop();
        if let Some(mut open) = idle {
            // One that has gone stale is dropped, and a new one is tried.
            if let Ok(done) = work(&mut open) {
                self.keep(open);
                return Ok(done);
            }
        }
        let mut open = self.open(library)?;
        let done = work(&mut open)?;
        self.keep(open);
        Ok(done)
    }

    fn keep(&self, open: Open) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(open);
        }
    }

    /// Initialises the library anew, at most once in a while and not where somebody else has since it was used, and
    /// does the work then.
    fn anew<T>(
        &self,
        failed: Failed,
        loads: u64,
        work: &impl Fn(&mut Open) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        // Nothing is gained by that where the PIN is wrong.
        if matches!(failed, Failed::Pin(_)) {
            return Err(failed);
        }
        {
            let mut library = self.library.write();
            if self.loads.load(Ordering::Acquire) == loads {
                let mut paused = self.paused.lock();
                if paused.is_some_and(|until| !until.has_passed()) {
                    return Err(failed);
                }
                *paused = Some(Deadline::after(PAUSE));
                // Sessions first: closing one needs the library.
                self.idle.lock().clear();
                if let Some(old) = library.take() {
                    // It may be gone already; what counts is whether the next line works.
                    let _ = old.finalize();
                }
                *library = Some(self.load()?);
                self.loads.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.in_a_session(work)
    }

    fn load(&self) -> Result<Pkcs11, Failed> {
        let library = Pkcs11::new(&self.settings.module)?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(library),
            Err(e) => Err(e.into()),
        }
    }

    fn open(&self, library: &Pkcs11) -> Result<Open, Failed> {
        let mut found = None;
        for slot in library.get_slots_with_token()? {
            // A slot whose token can't be asked is not the one.
            let is_it =
                library.get_token_info(slot).is_ok_and(|t| t.label().trim_end() == self.settings.token);
            if is_it && found.replace(slot).is_some() {
                return Err(Failed::Key("more than one token has the label"));
            }
        }
        let slot = found.ok_or(Failed::Key("no token has the label"))?;
        let session = library.open_rw_session(slot)?;
        let pin = self.pin()?;
        let seen = hashed(&pin);
        if *self.refused_pin.lock() == Some(seen) {
            return Err(Failed::Pin("the token has refused this PIN; it is not tried again".into()));
        }
        match session.login(UserType::User, Some(&AuthPin::from(pin.expose().clone()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinLocked | RvError::PinExpired, _)) => {
                *self.refused_pin.lock() = Some(seen);
                return Err(Failed::Pin("the token refuses the PIN".into()));
            }
            Err(e) => return Err(e.into()),
        }
        Ok(Open { session, keys: HashMap::new() })
    }

    fn pin(&self) -> Result<Secret<String>, Failed> {
        let path = &self.settings.pin_file;
        let no = |why: &dyn std::fmt::Display| Failed::Pin(format!("PIN file `{}`: {why}", path.display()));
        let mode = std::fs::metadata(path).map_err(|e| no(&e))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(no(&format!("mode {mode:04o} lets others read it; set it to 0400 or 0600")));
        }
        let text = Secret::new(std::fs::read_to_string(path).map_err(|e| no(&e))?);
        let pin = text.expose().trim_end_matches(['\r', '\n']);
        if pin.is_empty() || pin.len() > PIN_OCTETS_MAX {
            return Err(no(&format!("holds no PIN of 1 to {PIN_OCTETS_MAX} octets")));
        }
        Ok(Secret::new(pin.to_owned()))
    }
}

fn hashed(pin: &Secret<String>) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, pin.expose().as_bytes()).as_ref()) {
        *to = *from;
    }
    out
}
