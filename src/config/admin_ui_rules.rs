//! What of Socket.IO's admin page can be set wrong, in words for the person who set it.

use crate::config::Config;
use crate::config::admin_ui::{AdminUi, AdminUiAuth};
use crate::protocol::http::authorization::is_same_secret;

/// Characters of a password that is not a hash, at least.
const PASSWORD_CHARS_MIN: usize = 8;

/// The most that a hash may cost: each step doubles it, and this one is a second of a core.
const BCRYPT_COST_MAX: u32 = 14;

/// Characters of a bcrypt hash: `$2b$10$`, 22 of the salt, 31 of the hash.
const BCRYPT_CHARS: usize = 60;

/// Characters of `admin_ui_namespace` and of `admin_ui_server_id`, at most.
const NAME_CHARS_MAX: usize = 128;

/// Whether a password is a bcrypt hash of one.
pub(crate) fn is_hash(password: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| password.starts_with(prefix))
}

/// Says what is wrong with a hash.
fn check_hash(hash: &str) -> Result<(), String> {
    let fault = |what: &str| {
        Err(format!(
            "admin_ui_password: it begins as a bcrypt hash, and {what}; `htpasswd -nbB -C 10 admin PASSWORD` prints one behind the colon"
        ))
    };
    if cfg!(not(feature = "bcrypt")) {
        return fault("this program is built without the feature bcrypt");
    }
    let is_of_hash = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let cost: Option<u32> = hash.get(4..6).and_then(|cost| cost.parse().ok());
    match (cost, hash.as_bytes().get(6..)) {
        _ if hash.len() != BCRYPT_CHARS => fault("has not 60 characters"),
        (Some(4..=BCRYPT_COST_MAX), Some([b'$', rest @ ..])) if rest.iter().all(|byte| is_of_hash(*byte)) => {
            Ok(())
        }
        (Some(_), Some([b'$', ..])) => fault("its cost is not 04 to 14, or it has a character that none has"),
        _ => fault("has no cost"),
    }
}

impl Config {
    /// Says what is wrong with the settings of Socket.IO's admin page.
    pub(crate) fn check_admin_ui(&self) -> Result<(), String> {
        let (user, password) = (&self.admin_ui_user, self.admin_ui_password.reveal());
        let has_login = !user.is_empty() || !password.is_empty();
        if self.admin_ui == AdminUi::Off {
            return match has_login || self.admin_ui_auth != AdminUiAuth::Basic {
                true => Err(
                    "admin_ui_user, admin_ui_password and admin_ui_auth are for Socket.IO's admin page, which is off: set admin_ui to \
                     production or development"
                        .to_owned(),
                ),
                false => Ok(()),
            };
        }
        match self.admin_ui_auth {
            AdminUiAuth::Basic if user.is_empty() || password.is_empty() => {
                return Err(
                    "admin_ui: set admin_ui_user and admin_ui_password, or admin_ui_auth = \"loopback\" for whoever is on this machine, or \
                     \"none\" for everybody who can reach the server"
                        .to_owned(),
                );
            }
            AdminUiAuth::Basic if is_hash(password) => check_hash(password)?,
            AdminUiAuth::Basic if password.chars().count() < PASSWORD_CHARS_MIN => {
                return Err(format!(
                    "admin_ui_password: it has fewer than {PASSWORD_CHARS_MIN} characters; `openssl rand -hex 16` makes a good one"
                ));
            }
            AdminUiAuth::Basic => {}
            AdminUiAuth::Loopback | AdminUiAuth::None if has_login => {
                return Err(
                    "admin_ui_auth: with \"loopback\" or \"none\" nobody is asked for admin_ui_user and admin_ui_password; leave these out, or \
                     set \"basic\""
                        .to_owned(),
                );
            }
            AdminUiAuth::Loopback | AdminUiAuth::None => {}
        }
        let name = &self.admin_ui_namespace;
        let is_name = name.len() > 1 && name.starts_with('/') && name.chars().count() <= NAME_CHARS_MAX;
        if !is_name || name.contains([',', '?', '{', '}']) || name.contains(char::is_control) {
            return Err(format!(
                "admin_ui_namespace = {name:?}: it is a slash and a name of at most {NAME_CHARS_MAX} characters, without commas, braces and \
                 question marks"
            ));
        }
        let id = &self.admin_ui_server_id;
        if id.chars().count() > NAME_CHARS_MAX || id.contains(char::is_control) {
            return Err(format!(
                "admin_ui_server_id: it has at most {NAME_CHARS_MAX} characters, none of them a control character"
            ));
        }
        Ok(())
    }

    /// Whether this is the name that the page asks for.
    pub(crate) fn is_admin_ui_user(&self, user: &str) -> bool {
        is_same_secret(user, &self.admin_ui_user)
    }
}

/// The configuration of a page that asks for a name and a password.
#[cfg(test)]
pub(crate) fn with_login(admin_ui: AdminUi, user: &str, password: &str) -> Config {
    Config {
        admin_ui,
        admin_ui_user: user.to_owned(),
        admin_ui_password: password.into(),
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

    #[test]
    fn what_is_set_for_the_page_makes_sense_together() {
        use AdminUi::{Development, Off, Production};
        let auth = |admin_ui_auth, config| Config { admin_ui_auth, ..config };
        let open = |admin_ui_auth| Config { admin_ui: Production, admin_ui_auth, ..Config::default() };
        let named = |name: &str| Config { admin_ui_namespace: name.to_owned(), ..open(AdminUiAuth::None) };
        let rows = [
            (Config::default(), None),
            (with_login(Production, "ada", "lovelace"), None),
            (with_login(Development, "ada", HASH), None),
            (with_login(Development, "ada", &HASH.replace("$2b$", "$2y$")), None),
            (open(AdminUiAuth::None), None),
            (open(AdminUiAuth::Loopback), None),
            (named("/ops"), None),
            (open(AdminUiAuth::Basic), Some("admin_ui: set admin_ui_user")),
            (with_login(Production, "ada", ""), Some("admin_ui: set admin_ui_user")),
            (with_login(Production, "", "lovelace"), Some("admin_ui: set admin_ui_user")),
            (with_login(Off, "ada", ""), Some("which is off")),
            (with_login(Off, "", "lovelace"), Some("which is off")),
            (auth(AdminUiAuth::None, Config::default()), Some("which is off")),
            (with_login(Production, "ada", "short"), Some("admin_ui_password: it has fewer than 8")),
            (with_login(Production, "ada", &HASH[..59]), Some("has not 60 characters")),
            (with_login(Production, "ada", &HASH.replace("$10$", "$15$")), Some("cost is not 04 to 14")),
            (with_login(Production, "ada", &HASH.replace("$10$", "$xx$")), Some("has no cost")),
            (with_login(Production, "ada", &HASH.replace('N', "-")), Some("a character that none has")),
            (
                auth(AdminUiAuth::Loopback, with_login(Production, "ada", "lovelace")),
                Some("admin_ui_auth: with"),
            ),
            (auth(AdminUiAuth::None, with_login(Production, "", "lovelace")), Some("admin_ui_auth: with")),
            (named("admin"), Some("admin_ui_namespace = \"admin\"")),
            (named("/"), Some("admin_ui_namespace")),
            (named("/a/{id}"), Some("admin_ui_namespace")),
            (named("/a,b"), Some("admin_ui_namespace")),
            (
                Config { admin_ui_server_id: "a\nb".to_owned(), ..open(AdminUiAuth::None) },
                Some("admin_ui_server_id"),
            ),
        ];
        for (config, fault) in rows {
            let is_hashed = is_hash(config.admin_ui_password.reveal());
            match (config.validate(), fault) {
                (Err(message), _) if is_hashed && cfg!(not(feature = "bcrypt")) => {
                    assert!(message.contains("feature bcrypt"), "{message}");
                }
                (Ok(()), None) => {}
                (Err(message), Some(part)) => {
                    assert!(message.contains(part) && !message.contains("lovelace"), "{message}");
                }
                (result, expected) => panic!("{config:?}: {result:?}, expected {expected:?}"),
            }
        }
    }
}
