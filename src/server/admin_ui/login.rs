//! Who may use the page: a name with a password, or what an earlier login was given, or where somebody is.
//!
//! An earlier login is a signed text: the time at which it ends, and a code that only who knows the password's setting can make. So it
//! holds in every process with the same settings, and after a restart, and nothing is kept.

use std::collections::HashMap;
use std::net::IpAddr;
#[allow(clippy::disallowed_types)]
use std::sync::Mutex;

use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::base::time::Time;
use crate::config::Config;
use crate::config::admin_ui::AdminUiAuth;
use crate::config::admin_ui_rules::is_hash;
#[cfg(feature = "bcrypt")]
use crate::driver::passwords::PasswordDesk;
use crate::protocol::http::authorization::is_same_secret;
use crate::shard::value::bucket::Bucket;

/// How long a login holds, in seconds: a day, as in Node.
const SESSION_SECONDS: u64 = 86_400;

/// A login costs so many parts of what an address may have at once; a part comes back each second.
const LOGIN_PARTS: u64 = 10;

/// So an address may try this often at once, and then every ten seconds.
const LOGINS_AT_ONCE: usize = 5;

/// Addresses whose logins are counted one by one; others are counted together.
pub(crate) const LOGIN_ADDRESSES_MAX: usize = 1024;

/// A longer password is nobody's. bcrypt itself reads 72 bytes.
const PASSWORD_BYTES_MAX: usize = 1024;

/// What the page looks for: with these words, and no others, it asks for name and password again.
const INVALID: &str = "invalid credentials";

/// What the page sends when it connects. What is no text is as good as missing.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    username: Option<String>,
    password: Option<String>,
    session_id: Option<String>,
}

/// What is known of whoever connects.
pub(super) struct Caller {
    /// As the log shows it.
    pub(super) address: Option<IpAddr>,
    /// The connection comes from this machine, and no proxy says that it is for somebody else.
    pub(super) is_here: bool,
}

/// What is to be done for a login.
pub(super) enum Verdict {
    /// The caller may in, and has said nothing that is to be remembered.
    Welcome,
    /// The caller may in once the password was found to be that of the hash, if the name is the right one, and then gets a session.
    #[cfg(feature = "bcrypt")]
    Compare { answer: oneshot::AsyncReceiver<bool>, is_user: bool },
    /// The caller may in, and gets a session.
    Begin,
    /// The caller is told this.
    Refuse(&'static str),
}

/// Lets in or refuses.
pub(super) struct Gate {
    auth: AdminUiAuth,
    config: Config,
    key: [u8; 32],
    /// Logins of many shards' clients: seldom, and never in a hurry.
    #[allow(clippy::disallowed_types)]
    attempts: Mutex<Attempts>,
    #[cfg(feature = "bcrypt")]
    desk: PasswordDesk,
}

/// How often each address has tried lately.
#[derive(Debug, Default)]
struct Attempts {
    by_network: HashMap<Option<IpAddr>, Bucket>,
    others: Bucket,
}

impl Credentials {
    /// Reads the auth of a CONNECT, whatever it is.
    pub(super) fn read(auth: &str) -> Credentials {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Field {
            Text(String),
            Other(serde::de::IgnoredAny),
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Fields {
            username: Option<Field>,
            password: Option<Field>,
            #[serde(rename = "sessionId")]
            session_id: Option<Field>,
        }
        let text = |field: Option<Field>| match field {
            Some(Field::Text(text)) => Some(text),
            Some(Field::Other(_)) | None => None,
        };
        let fields: Fields = serde_json::from_str(auth).unwrap_or_default();
        Credentials {
            username: text(fields.username),
            password: text(fields.password),
            session_id: text(fields.session_id),
        }
    }
}

impl Gate {
    #[allow(clippy::disallowed_types)]
    pub(super) fn new(config: &Config) -> Gate {
        Gate {
            auth: config.admin_ui_auth,
            config: config.clone(),
            key: session_key(config),
            attempts: Mutex::default(),
            #[cfg(feature = "bcrypt")]
            desk: PasswordDesk::default(),
        }
    }

    /// Decides, as far as that is done at once.
    pub(super) fn ask(&self, given: Credentials, caller: &Caller, now: (Time, u64)) -> Verdict {
        match self.auth {
            AdminUiAuth::None => return Verdict::Welcome,
            AdminUiAuth::Loopback if caller.is_here => return Verdict::Welcome,
            AdminUiAuth::Loopback => return Verdict::Refuse("only from the machine that the server runs on"),
            AdminUiAuth::Basic => {}
        }
        if given.session_id.is_some_and(|session| self.is_session(&session, now.1)) {
            return Verdict::Welcome;
        }
        let (Some(user), Some(password)) = (given.username, given.password) else {
            return Verdict::Refuse(INVALID);
        };
        if !self.may_try(caller.address, now.0) {
            return Verdict::Refuse("too many logins; try again in ten seconds");
        }
        let expected = self.config.admin_ui_password.reveal();
        let is_user = self.config.is_admin_ui_user(&user);
        if password.len() > PASSWORD_BYTES_MAX {
            return Verdict::Refuse(INVALID);
        }
        if !is_hash(expected) {
            let is_password = is_same_secret(&password, expected);
            return if is_user & is_password { Verdict::Begin } else { Verdict::Refuse(INVALID) };
        }
        self.compare(password, expected, is_user)
    }

    /// A wrong name takes as long as a wrong password.
    #[cfg(feature = "bcrypt")]
    fn compare(&self, password: String, hash: &str, is_user: bool) -> Verdict {
        match self.desk.compare(password, hash.to_owned()) {
            Some(answer) => Verdict::Compare { answer, is_user },
            None => Verdict::Refuse("too many logins at once; try again"),
        }
    }

    #[cfg(not(feature = "bcrypt"))]
    fn compare(&self, _: String, _: &str, _: bool) -> Verdict {
        // `Config::validate` has refused such a password.
        Verdict::Refuse(INVALID)
    }

    fn may_try(&self, address: Option<IpAddr>, now: Time) -> bool {
        let Ok(mut attempts) = self.attempts.lock() else { return false };
        let Attempts { by_network, others } = &mut *attempts;
        let network = address.map(network_of);
        let parts_max = LOGINS_AT_ONCE * LOGIN_PARTS as usize;
        if by_network.len() >= LOGIN_ADDRESSES_MAX && !by_network.contains_key(&network) {
            // Those who have not tried for so long that they may try as at first.
            by_network.retain(|_, bucket| {
                let mut bucket = *bucket;
                bucket.charge(1, now, 1, 1).is_err()
            });
        }
        let bucket = match by_network.len() < LOGIN_ADDRESSES_MAX || by_network.contains_key(&network) {
            true => by_network.entry(network).or_default(),
            false => others,
        };
        bucket.charge(LOGIN_PARTS, now, 1, parts_max - LOGIN_PARTS as usize + 1).is_ok()
    }

    /// The text that lets a page in again.
    pub(super) fn new_session(&self, unix_seconds: u64) -> String {
        let until = unix_seconds.saturating_add(SESSION_SECONDS);
        self.sign(until)
    }

    fn is_session(&self, session: &str, unix_seconds: u64) -> bool {
        let until = session.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        until.is_some_and(|until| is_same_secret(session, &self.sign(until)) && unix_seconds < until)
    }

    fn sign(&self, until: u64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key may have any length");
        mac.update(&until.to_be_bytes());
        let code = mac.finalize().into_bytes();
        let digits: String = code.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{until:016x}{digits}")
    }
}

/// Refuses after all whoever was not known by the hash.
#[cfg(feature = "bcrypt")]
pub(super) fn unknown() -> &'static str {
    INVALID
}

/// An IPv6 network of 64 bits is one address.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [one, two, three, four, ..] = address.segments();
            IpAddr::from([one, two, three, four, 0, 0, 0, 0])
        }
    }
}

/// Rounds by which a password that is no hash is made a key: who has read a session from a browser must do them for each guess.
const KEY_ROUNDS: u32 = if cfg!(debug_assertions) { 1000 } else { 200_000 };

/// The key that sessions are signed with. A hash has 128 random bits of salt in it, which nobody guesses.
fn session_key(config: &Config) -> [u8; 32] {
    let secret = config.admin_ui_password.reveal();
    let mut digest = Sha256::new();
    for part in ["shardcast admin page", &config.admin_ui_user, secret] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut key: [u8; 32] = digest.finalize().into();
    if !secret.is_empty() && !is_hash(secret) {
        for _ in 0..KEY_ROUNDS {
            key = Sha256::new().chain_update(key).chain_update(secret).finalize().into();
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::admin_ui::AdminUi;
    use crate::config::admin_ui_rules::with_login;

    fn gate() -> Gate {
        Gate::new(&with_login(AdminUi::Production, "admin", "changeit"))
    }

    fn caller(address: &str) -> Caller {
        Caller { address: address.parse().ok(), is_here: false }
    }

    fn said(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Welcome => "welcome",
            Verdict::Begin => "begin",
            #[cfg(feature = "bcrypt")]
            Verdict::Compare { .. } => "compare",
            Verdict::Refuse(words) => words,
        }
    }

    #[test]
    fn name_and_password_let_in_and_nothing_else_does() {
        let rows = [
            (r#"{"username":"admin","password":"changeit"}"#, "begin"),
            (r#"{"sessionId":"beef","username":"admin","password":"changeit"}"#, "begin"),
            (r#"{"sessionId":1,"username":"admin","password":"changeit","more":[{}]}"#, "begin"),
            (r#"{"username":"admin","password":"changeit2"}"#, INVALID),
            (r#"{"username":"admin","password":""}"#, INVALID),
            (r#"{"username":"root","password":"changeit"}"#, INVALID),
            (r#"{"username":"","password":""}"#, INVALID),
            (r#"{"username":"admin"}"#, INVALID),
            (r#"{"username":"admin","password":null}"#, INVALID),
            (r#"{"username":"admin","password":7}"#, INVALID),
            (r#"{"username":"admin","password":["changeit"]}"#, INVALID),
            (r#"{"username":["admin"],"password":"changeit"}"#, INVALID),
            (r#"{"sessionId":"0123456789abcdef"}"#, INVALID),
            (r#"{"sessionId":"ffffffffffffffff00000000000000000000000000000000"}"#, INVALID),
            (r#"{"sessionId":1}"#, INVALID),
            (r#"{"sessionId":null}"#, INVALID),
            ("{}", INVALID),
            ("", INVALID),
            ("null", INVALID),
            ("[]", INVALID),
            ("\"admin\"", INVALID),
        ];
        for (number, (auth, expected)) in rows.into_iter().enumerate() {
            let from = caller(&format!("192.0.2.{number}"));
            let verdict = gate().ask(Credentials::read(auth), &from, (Time(0), 1000));
            assert_eq!(said(&verdict), expected, "{auth}");
        }
        let long = format!(r#"{{"username":"admin","password":"{}"}}"#, "x".repeat(PASSWORD_BYTES_MAX + 1));
        let verdict = gate().ask(Credentials::read(&long), &caller("192.0.2.1"), (Time(0), 1000));
        assert_eq!(said(&verdict), INVALID);
    }

    #[test]
    fn a_session_holds_for_a_day_in_every_process_with_the_same_settings() {
        let session = gate().new_session(1000);
        let auth = |session: &str| Credentials::read(&format!(r#"{{"sessionId":"{session}"}}"#));
        let ask = |gate: &Gate, session: &str, now| {
            said(&gate.ask(auth(session), &caller(""), (Time(0), now))).to_owned()
        };
        assert_eq!(ask(&gate(), &session, 1000), "welcome");
        assert_eq!(ask(&gate(), &session, 1000 + SESSION_SECONDS - 1), "welcome");
        assert_eq!(ask(&gate(), &session, 1000 + SESSION_SECONDS), INVALID);
        for (place, _) in session.char_indices() {
            let mut forged = session.clone();
            let other = if &session[place..=place] == "0" { "1" } else { "0" };
            forged.replace_range(place..=place, other);
            assert_eq!(ask(&gate(), &forged, 1000), INVALID, "{forged}");
        }
        for (user, password) in [("admin", "changeit2"), ("admin2", "changeit")] {
            let other = Gate::new(&with_login(AdminUi::Production, user, password));
            assert_eq!(ask(&other, &session, 1000), INVALID);
        }
    }

    #[test]
    fn an_address_tries_five_times_and_then_every_ten_seconds() {
        let gate = gate();
        let wrong = || Credentials::read(r#"{"username":"admin","password":"wrong"}"#);
        let tries = |address: &str, now| {
            let tried = (0..20).map(|_| gate.ask(wrong(), &caller(address), (Time(now), 0)));
            tried.filter(|verdict| said(verdict) == INVALID).count()
        };
        assert_eq!(tries("192.0.2.1", 0), LOGINS_AT_ONCE);
        assert_eq!(tries("192.0.2.1", 9_000), 0);
        assert_eq!(tries("192.0.2.1", 10_000), 1);
        assert_eq!(tries("192.0.2.1", 60_000), LOGINS_AT_ONCE);
        assert_eq!(tries("192.0.2.2", 60_000), LOGINS_AT_ONCE, "another address has its own");
        assert_eq!(tries("2001:db8::1", 60_000), LOGINS_AT_ONCE);
        assert_eq!(tries("2001:db8::2", 60_000), 0, "a network of 64 bits is one");
        let session = gate.new_session(0);
        let verdict = gate.ask(
            Credentials::read(&format!(r#"{{"sessionId":"{session}"}}"#)),
            &caller("192.0.2.1"),
            (Time(60_000), 0),
        );
        assert_eq!(said(&verdict), "welcome", "who has a session needs no try");
    }

    #[test]
    fn addresses_are_counted_together_when_there_are_too_many() {
        let gate = gate();
        let address =
            |number: usize| IpAddr::from([10, (number >> 16) as u8, (number >> 8) as u8, number as u8]);
        let tried =
            (0..LOGIN_ADDRESSES_MAX + 100).filter(|number| gate.may_try(Some(address(*number)), Time(0)));
        assert_eq!(tried.count(), LOGIN_ADDRESSES_MAX + LOGINS_AT_ONCE);
        assert!(gate.may_try(Some(address(70_000)), Time(100_000)), "those of old times are forgotten");
        assert_eq!(gate.attempts.lock().unwrap().by_network.len(), 1);
    }

    #[test]
    fn where_nobody_is_asked_it_counts_where_one_is() {
        for (auth, is_here, expected) in [
            (AdminUiAuth::None, false, "welcome"),
            (AdminUiAuth::None, true, "welcome"),
            (AdminUiAuth::Loopback, true, "welcome"),
            (AdminUiAuth::Loopback, false, "only from the machine that the server runs on"),
        ] {
            let config = Config { admin_ui: AdminUi::Production, admin_ui_auth: auth, ..Config::default() };
            let from = Caller { address: None, is_here };
            assert_eq!(said(&Gate::new(&config).ask(Credentials::default(), &from, (Time(0), 0))), expected);
        }
    }

    #[cfg(feature = "bcrypt")]
    #[test]
    fn a_hash_is_compared_on_a_thread_whatever_the_name() {
        let hash = bcrypt::hash("changeit", 4).unwrap();
        let gate = Gate::new(&with_login(AdminUi::Production, "admin", &hash));
        for user in ["admin", "root"] {
            let auth = format!(r#"{{"username":"{user}","password":"changeit"}}"#);
            assert_eq!(said(&gate.ask(Credentials::read(&auth), &caller(""), (Time(0), 0))), "compare");
        }
    }
}
