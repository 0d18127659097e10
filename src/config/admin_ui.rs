//! Socket.IO's admin page: what it is shown, and to whom.
//!
//! What of its settings can be set wrong is in `admin_ui_rules`.

use serde::Deserialize;

/// What Socket.IO's admin page is shown: see [`Config::admin_ui`](crate::Config::admin_ui).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AdminUi {
    /// Nothing: there is no namespace for it.
    #[default]
    Off,
    /// Sums: clients, sockets of each namespace, connections and bytes a second.
    Production,
    /// Also every socket, room and event, as they come.
    Development,
}

/// Who may use Socket.IO's admin page: see [`Config::admin_ui_auth`](crate::Config::admin_ui_auth).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AdminUiAuth {
    /// Who knows `admin_ui_user` and `admin_ui_password`.
    #[default]
    Basic,
    /// Who is on this machine.
    Loopback,
    /// Everybody who can reach the server.
    None,
}
