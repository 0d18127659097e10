//! What of the operators' listener can be set wrong, in words for the person who set it.

use crate::config::Config;

/// Characters of `admin_token` at least: a shorter one can be guessed by trying.
const TOKEN_CHARS_MIN: usize = 16;

/// Characters of `admin_password` at least.
const PASSWORD_CHARS_MIN: usize = 8;

impl Config {
    /// Whether operators must say who they are.
    pub(crate) fn has_admin_credentials(&self) -> bool {
        !self.admin_token.is_empty() || !self.admin_password.is_empty()
    }

    /// Says what is wrong with the settings of the operators' listener.
    pub(crate) fn check_admin(&self) -> Result<(), String> {
        if self.admin_tls && (self.tls_cert.is_empty() || self.admin_bind.is_empty()) {
            return Err(
                "admin_tls = true: it needs admin_bind, and a certificate in tls_cert and tls_key".to_owned()
            );
        }
        let (token, password) = (self.admin_token.reveal(), self.admin_password.reveal());
        if self.admin_bind.is_empty() {
            return match self.has_admin_credentials() || !self.admin_user.is_empty() {
                true => Err(
                    "admin_token, admin_user and admin_password are for the operators' listener, which is off: set admin_bind, \
                     127.0.0.1:9090 for example"
                        .to_owned(),
                ),
                false => Ok(()),
            };
        }
        if self.admin_user.is_empty() != password.is_empty() {
            return Err("admin_user and admin_password belong together: set both, or neither".to_owned());
        }
        if self.admin_user.contains(':') {
            return Err("admin_user: a name has no colon in it (RFC 7617)".to_owned());
        }
        for (name, value, least) in
            [("admin_token", token, TOKEN_CHARS_MIN), ("admin_password", password, PASSWORD_CHARS_MIN)]
        {
            if !value.is_empty() && value.chars().count() < least {
                return Err(format!(
                    "{name}: it has fewer than {least} characters; `openssl rand -hex 16` makes a good one"
                ));
            }
            if value.chars().any(|char| char.is_control()) {
                return Err(format!("{name}: it has a control character, a line end for example"));
            }
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("admin_token: it goes in a header, so it is letters, digits and signs of ASCII without spaces".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::secret::Secret;

    #[test]
    fn what_is_set_for_operators_makes_sense_together() {
        let config = |bind: &str, token: &str, user: &str, password: &str| Config {
            admin_bind: bind.to_owned(),
            admin_token: Secret::from(token),
            admin_user: user.to_owned(),
            admin_password: Secret::from(password),
            ..Config::default()
        };
        let token = "0123456789abcdef";
        for (config, fault) in [
            (config("", "", "", ""), None),
            (config("127.0.0.1:0", "", "", ""), None),
            (config("127.0.0.1:0", token, "", ""), None),
            (config("127.0.0.1:0", token, "ada", "eight chars"), None),
            (config("", token, "", ""), Some("set admin_bind")),
            (config("", "", "ada", ""), Some("set admin_bind")),
            (config("127.0.0.1:0", "", "ada", ""), Some("belong together")),
            (config("127.0.0.1:0", "", "", "eight chars"), Some("belong together")),
            (config("127.0.0.1:0", "", "a:b", "eight chars"), Some("no colon")),
            (config("127.0.0.1:0", "short", "", ""), Some("admin_token: it has fewer than 16")),
            (config("127.0.0.1:0", "", "ada", "short"), Some("admin_password: it has fewer than 8")),
            (config("127.0.0.1:0", "0123456789abcde\n", "", ""), Some("control character")),
            (config("127.0.0.1:0", "0123456789 abcdef", "", ""), Some("without spaces")),
            (Config { admin_tls: true, ..config("127.0.0.1:0", token, "", "") }, Some("admin_tls = true")),
        ] {
            match (config.validate(), fault) {
                (Ok(()), None) => {}
                (Err(message), Some(part)) => assert!(message.contains(part), "{message}"),
                (result, expected) => panic!("{config:?}: {result:?}, expected {expected:?}"),
            }
        }
    }
}
