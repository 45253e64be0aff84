// What the environment says about the hub: the names and meanings are huggingface_hub's.

import SmeltStorage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How the hub is reached.
package struct HubSettings: Sendable {
  /// The hub's address, without a slash at its end: `HF_ENDPOINT`.
  var endpoint: String
  /// The token, where there is one: `HF_TOKEN`, else the file `HF_TOKEN_PATH` or `$HF_HOME/token`.
  var token: String?
  /// The folder of the cache: `HF_HUB_CACHE`, else `$HF_HOME/hub`.
  package var cache: String
  /// Whether nothing is fetched: `HF_HUB_OFFLINE`.
  var isOffline: Bool
  /// Seconds until a server must have answered, and seconds that a transfer may stand still: `HF_HUB_ETAG_TIMEOUT`,
  /// `HF_HUB_DOWNLOAD_TIMEOUT`.
  var answerSeconds: Int
  var transferSeconds: Int
  /// A file of certificates to trust in place of the system's: `CURL_CA_BUNDLE`, `SSL_CERT_FILE`.
  var authorities: String?
  /// Whether hosts other than this machine may be asked without encryption.
  package var allowsHTTP = false
  /// The first wait before a request is tried again, in seconds; each further one is twice as long.
  var firstWait = 0.25
  /// How often a request is tried without a single byte of success: `SMELT_FETCH_TRIES`.
  var tries: Int

  /// What the environment of the process says.
  package static var environment: HubSettings { HubSettings(variable) }

  private static func variable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
  }

  /// What variables say; a name without a value is asked for as nil.
  init(_ variable: (String) -> String?) {
    func isSet(_ name: String) -> Bool {
      ["1", "ON", "YES", "TRUE"].contains(variable(name)?.uppercased() ?? "")
    }
    func seconds(_ name: String) -> Int { max(1, variable(name).flatMap { Int($0) } ?? 10) }
    let user = variable("HOME") ?? "/"
    func expanded(_ path: String) -> String {
      path.hasPrefix("~/") ? joinPath(user, String(path.dropFirst(2))) : path
    }
    let home =
      variable("HF_HOME").map(expanded)
      ?? joinPath(variable("XDG_CACHE_HOME").map(expanded) ?? joinPath(user, ".cache"), "huggingface")
    endpoint = withoutSlash(variable("HF_ENDPOINT") ?? "https://huggingface.co")
    cache = variable("HF_HUB_CACHE").map(expanded) ?? joinPath(home, "hub")
    isOffline = isSet("HF_HUB_OFFLINE") || isSet("TRANSFORMERS_OFFLINE")
    answerSeconds = seconds("HF_HUB_ETAG_TIMEOUT")
    transferSeconds = seconds("HF_HUB_DOWNLOAD_TIMEOUT")
    tries = max(1, variable("SMELT_FETCH_TRIES").flatMap { Int($0) } ?? 9)
    authorities = variable("CURL_CA_BUNDLE") ?? variable("SSL_CERT_FILE")
    let clean = { (text: String) in String(text.filter { $0.isASCII && !$0.isWhitespace && $0 != "\0" }) }
    token = variable("HF_TOKEN").map(clean)
    let file = variable("HF_TOKEN_PATH").map(expanded) ?? joinPath(home, "token")
    // A token that nobody gave for this command is not used where that is switched off.
    if token == nil, !isSet("HF_HUB_DISABLE_IMPLICIT_TOKEN"), pathKind(file) == .file,
      let bytes = try? readSmallFile(file, limit: 1 << 12, code: .netAccess)
    {
      token = clean(String(decoding: bytes.array, as: UTF8.self))
    }
    if token?.isEmpty == true { token = nil }
  }
}
