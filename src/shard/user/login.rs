//! Cookie sessions: read by routes, inherited by sockets.
//!
//! A socket works on a fork of the session that its handshake's cookie held, as in Flask-SocketIO: all namespaces of
//! one connection share it, and no route ever sees it, for no cookie can be set over a WebSocket.

use crate::protocol::flask::session::Session;
use crate::protocol::flask::signer::CookieSigner;
use crate::protocol::http::cookies::{SameSite, SetCookie};
use crate::protocol::http::response::Response;
use crate::shard::core::Core;
use crate::shard::user::request::Request;
use crate::shard::user::socket::Socket;
use crate::shard::value::session::Session as OpenedSession;

impl Socket {
    /// The connection's session: what the cookie held at the handshake, with whatever handlers have saved since.
    /// Empty without a cookie that [`Server::cookie_sessions`](crate::Server::cookie_sessions) believes.
    ///
    /// ```
    /// use shardcast::flask::{CookieSigner, Session};
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Context, Server};
    ///
    /// let server = Server::new(Config::default())
    ///     .cookie_sessions(CookieSigner::new("the application's SECRET_KEY"))
    ///     .namespace("/", |io| io.on("who", |cx: &mut Context| cx.session().get::<String>("user")));
    ///
    /// // What Flask would set after a login.
    /// let server = TestServer::new(server).unwrap();
    /// let mut session = Session::new();
    /// session.insert("user", "ada");
    /// let cookie = CookieSigner::new("the application's SECRET_KEY").write(&session, server.unix_time());
    ///
    /// let client = server.client().header("Cookie", &format!("session={cookie}")).connect("/").unwrap();
    /// assert_eq!(client.call("who", ()).unwrap().first::<String>().unwrap(), "ada");
    /// ```
    pub fn session(&self) -> Session {
        let mut core = self.core().borrow_mut();
        let signer = core.tables.env.signer.clone();
        let Some(opened) = opened(&mut core, self) else { return Session::default() };
        let fork = opened.fork.get_or_insert_with(|| {
            let of_handshake = || {
                let (signer, handshake) = (signer?, &opened.handshake);
                let cookie = handshake.cookie(signer.cookie_name())?;
                Some(Box::new(believe(&signer, cookie, handshake.issued() / 1000)))
            };
            of_handshake().unwrap_or_default()
        });
        Session::clone(fork)
    }

    /// Keeps a changed session for the later handlers of this connection, in every namespace. The cookie stays as it is.
    pub fn save_session(&self, session: Session) {
        if let Some(opened) = opened(&mut self.core().borrow_mut(), self) {
            opened.fork = Some(Box::new(session));
        }
    }
}

/// The session of Engine.IO that a socket belongs to.
fn opened<'a>(core: &'a mut Core, socket: &Socket) -> Option<&'a mut OpenedSession> {
    let session = core.tables.sockets.get(socket.key())?.session;
    core.tables.sessions.get_mut(session)
}

impl Request<'_> {
    /// The session in the request's cookie. Empty without one that
    /// [`Server::cookie_sessions`](crate::Server::cookie_sessions) believes.
    pub fn session(&self) -> Session {
        let Some(signer) = self.signer() else { return Session::default() };
        let cookie = self.cookie(signer.cookie_name());
        cookie.map(|cookie| believe(&signer, cookie, self.unix_seconds())).unwrap_or_default()
    }

    /// The response with a cookie that holds the session; an empty session removes it. The cookie is `HttpOnly` and
    /// `SameSite=Lax`, and `Secure` when the page came over https.
    ///
    /// Without [`Server::cookie_sessions`](crate::Server::cookie_sessions) there is no key to sign with: the response
    /// stays as it is, and the log says so.
    ///
    /// ```
    /// # use shardcast::{Config, Server, flask::CookieSigner, http::Response, testing::TestServer};
    /// let server = Server::new(Config::default()).cookie_sessions(CookieSigner::new("secret!")).route("/visits", |request| {
    ///     let mut session = request.session();
    ///     let visits = session.get::<u64>("visits").unwrap_or_default() + 1;
    ///     session.insert("visits", visits);
    ///     request.with_session(Response::text(format!("visit {visits}")), &session)
    /// });
    /// let server = TestServer::new(server).unwrap();
    /// let first = server.get("/visits");
    /// let cookie = first.header("Set-Cookie").unwrap().split(';').next().unwrap();
    /// let second = server.request(shardcast::http::Method::Get, "/visits", &[("Cookie", cookie)], b"");
    /// assert_eq!(second.text(), "visit 2");
    /// ```
    pub fn with_session(&self, response: Response, session: &Session) -> Response {
        let Some(signer) = self.signer() else {
            tracing::error!(
                path = self.path(),
                "a session is not kept: call Server::cookie_sessions with a key"
            );
            return response;
        };
        let value =
            if session.is_empty() { String::new() } else { signer.write(session, self.unix_seconds()) };
        let cookie = SetCookie::new(signer.cookie_name(), &value)
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.is_secure());
        let cookie = if session.is_empty() {
            cookie.max_age(0)
        } else if session.is_permanent() {
            cookie.max_age(signer.max_age().as_secs())
        } else {
            cookie
        };
        match cookie.encode() {
            Ok(cookie) => response.header("set-cookie", cookie).header("vary", "Cookie"),
            Err(error) => {
                tracing::error!(%error, cookie = signer.cookie_name(), "a session's cookie cannot be written");
                response
            }
        }
    }
}

/// The session in a cookie; an empty one when it is not believed, as in Flask.
fn believe(signer: &CookieSigner, cookie: &str, now: u64) -> Session {
    signer.read(cookie, now).unwrap_or_else(|error| {
        tracing::info!(cookie = signer.cookie_name(), %error, "a session cookie is not believed; the session is empty");
        Session::default()
    })
}
