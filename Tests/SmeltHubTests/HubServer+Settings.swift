// How the tests of this module reach a hub on this machine.

import SmeltTestSupport

@testable import SmeltHub

extension HubServer {
  /// Settings that reach it, with waits that tests do not notice.
  func settings(token: String? = "secret") -> HubSettings {
    let endpoint = server.address("")
    var settings = HubSettings {
      ["HF_ENDPOINT": endpoint, "HF_HOME": "/nonexistent", "HF_TOKEN": token][$0] ?? nil
    }
    settings.firstWait = 0.001
    return settings
  }

  /// Mounts it.
  func mount(_ path: String = "", _ change: (inout HubSettings) -> Void = { _ in }) throws -> String {
    var settings = settings()
    change(&settings)
    return try Hub.path("hf://\(id)\(path)", RemoteOptions(), settings)
  }
}
