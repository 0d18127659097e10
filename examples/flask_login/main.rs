//! A page of a Flask application, logged in with Flask-Login, talks to shardcast under the same login.
//!
//! ```text
//! export SECRET_KEY="something long and random"
//! pip install flask flask-login && python examples/flask_login/app.py    # http://127.0.0.1:5001
//! SHARDCAST_CORS_ALLOWED_ORIGINS=http://127.0.0.1:5001 cargo run --example flask_login
//! ```
//!
//! Cookies belong to a host, whatever the port: the browser sends Flask's here as well. Behind one proxy, where Flask has
//! `/` and this server `/socket.io/`, the origin is the same and needs no setting.

use shardcast::flask::{CookieSigner, authenticated_only};
use shardcast::http::Response;
use shardcast::{CloseReason, Config, Context, Error, Server};

fn main() -> shardcast::Result<()> {
    let secret_key = std::env::var("SECRET_KEY")
        .map_err(|_| Error::new("SECRET_KEY is not set: it must be that of the Flask application"))?;
    Server::new(Config::load()?)
        .cookie_sessions(CookieSigner::new(secret_key))
        // Who is not logged in is told so, and stays outside.
        .namespace("/", |io| {
            io.require_login();
            io.on_connect(|cx: &mut Context| {
                cx.broadcast().emit("entered", user(cx));
            });
            io.on("say", |cx: &mut Context, text: String| {
                cx.broadcast().emit("said", (user(cx), text));
            });
            io.on_disconnect(|cx: &mut Context, _: CloseReason| {
                cx.broadcast().include_self(false).emit("left", user(cx));
            });
        })
        // Everybody may look; who wants to do more is disconnected unless logged in.
        .namespace("/public", |io| {
            io.on("look", |_: &mut Context| "at your leisure");
            io.on("touch", authenticated_only(|cx: &mut Context| user(cx)));
        })
        // Routes read the same session, and may change it: Flask sees what they wrote.
        .route("/visits", |request| {
            let mut session = request.session();
            let visits = session.get::<u64>("visits").unwrap_or_default() + 1;
            session.insert("visits", visits);
            request.with_session(Response::text(format!("visit {visits}")), &session)
        })
        .run()
}

fn user(cx: &Context) -> String {
    cx.session().user_id().unwrap_or_default().to_owned()
}
