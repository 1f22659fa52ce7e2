//! Outage is not refusal: with the service cut off or paused, or Envoy killed, a valid token is never answered 401 or 403;
//! and all of it recovers with nobody's help.

use crate::support::Envoy;
use crate::support::clients::Clients;
use crate::support::container::ServiceContainer;
use crate::support::docker::{self, Network};
use crate::support::reference::Reference;
use crate::support::service::{Admin, Made};

/// 504: the demo's upstream is the service too, and may go silent after the filter has had its verdict.
const OUTAGE: [u16; 3] = [200, 503, 504];
const PATH: &str = "/rest/api/2/myself";

/// The reference configuration in containers, and a user with a token. Fields are dropped in this order.
struct Scene {
    envoy: Envoy,
    service: ServiceContainer,
    network: Network,
    admin: Admin,
    alice: Made,
}

impl Scene {
    async fn start() -> Self {
        docker::require();
        let network = Network::create();
        let service = ServiceContainer::start(&network).await;
        let envoy = Envoy::start_reference_on(&network, &Reference::in_containers()).await;
        let admin = service.bootstrap();
        let alice = admin.user_with_token("alice").await;
        Self { envoy, service, network, admin, alice }
    }

    fn clients(&self) -> Clients {
        Clients::start(&self.envoy.http1(), PATH, &self.alice.token)
    }

    /// After everything, a revoked token is still refused: nothing has been opened for good.
    async fn assert_closed(&self) {
        self.admin.revoke(&self.alice.id).await;
        let answer = self.envoy.until_refused(&self.alice.token).await;
        answer.assert_refused(401, "Provided API key is invalid");
    }
}

#[tokio::test]
async fn a_valid_token_is_never_refused_while_the_service_is_cut_off_and_works_when_it_is_back() {
    let scene = Scene::start().await;
    let clients = scene.clients();
    clients.see(200).await;
    scene.service.disconnect(&scene.network);
    clients.see(503).await;
    scene.service.connect(&scene.network);
    clients.see(200).await;
    clients.assert_saw_only(&OUTAGE).await;
    scene.service.ready().await;
    scene.assert_closed().await;
}

#[tokio::test]
async fn a_valid_token_is_never_refused_while_the_service_is_paused_and_works_when_it_goes_on() {
    let scene = Scene::start().await;
    let clients = scene.clients();
    clients.see(200).await;
    scene.service.pause();
    clients.see(503).await;
    scene.service.unpause();
    clients.see(200).await;
    clients.assert_saw_only(&OUTAGE).await;
    scene.assert_closed().await;
}

#[tokio::test]
async fn a_valid_token_is_never_refused_when_envoy_is_killed_and_works_when_it_is_started_again() {
    let mut scene = Scene::start().await;
    let clients = scene.clients();
    clients.see(200).await;
    scene.envoy.kill().await;
    clients.see(0).await;
    scene.envoy.start_again().await;
    clients.see(200).await;
    clients.assert_saw_only(&[0, 200, 503]).await;
    scene.assert_closed().await;
}
