//! TLS with the server under load, and what is said of a certificate that is not believed. Which are is in `client/tls.rs`.
//!
//! Each connection makes a whole handshake: clients of a real crowd have no sessions to resume. Encryption is the generator's work as
//! much as the server's, so its core is busy sooner: see the warning in the report.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error};

use super::error::{BenchError, Fault};
use crate::client::{Trust, client_config};

/// How to speak TLS with one server.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// For a server of this name: with the system's authorities, those of a PEM file, or without a check.
    pub(super) fn new(host: &str, ca: Option<&Path>, is_insecure: bool) -> Result<Self, BenchError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| BenchError::Usage(format!("{host} is no name that a certificate can have")))?;
        let trust = match ca {
            _ if is_insecure => Trust::Everybody,
            Some(path) => Trust::File(path),
            None => Trust::SystemAnd(None),
        };
        let mut config = client_config(trust).map_err(BenchError::Usage)?;
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name })
    }

    /// The client's side of a new connection.
    pub(super) fn connect(&self) -> Result<Box<ClientConnection>, Fault> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = connection.map_err(|error| fault_of(&error))?;
        // The wire has a bound of its own.
        connection.set_buffer_limit(None);
        Ok(Box::new(connection))
    }
}

/// What an error means for somebody who wants to load a server.
pub(super) fn fault_of(error: &Error) -> Fault {
    let advice = match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "no authority that this machine knows has signed its certificate; name one by --ca FILE, or use --insecure"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name; use that name in the URL, or --insecure"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired; renew it, or use --insecure"
            }
            _ => "its certificate is not believed; use --ca FILE or --insecure",
        },
        Error::InvalidMessage(_) => "what answers there does not speak TLS; write http:// or ws://",
        Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) => {
            "the server refused the handshake; it may ask for a certificate of the client, which this program has not"
        }
        _ => "the connection cannot be encrypted",
    };
    Fault::Tls(format!("{error}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_a_certificate_can_have() {
        assert!(Tls::new("bad name", None, true).is_err());
        assert!(Tls::new("::1", None, true).is_ok());
    }

    #[test]
    fn each_error_says_what_to_change() {
        let rows = [
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "--ca FILE"),
            (Error::InvalidCertificate(CertificateError::NotValidForName), "another name"),
            (Error::InvalidCertificate(CertificateError::Expired), "expired"),
            (Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "write http://"),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "certificate of the client"),
        ];
        for (error, expected) in rows {
            assert!(fault_of(&error).to_string().contains(expected), "{error}");
        }
    }
}
