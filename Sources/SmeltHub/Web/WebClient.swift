// Requests with what the web needs around them: redirects that carry no token to another server, waits, and second tries.

import SmeltStorage

internal import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Sends requests; used from any thread.
final class WebClient: Sendable {
  let settings: HubSettings
  private let connections = ConnectionPool()
  /// Whether a server has answered before.
  private let isReached = Atomic<Bool>(false)

  /// The most redirects in a row.
  private static let redirectLimit = 10
  /// The longest wait that a server may ask for, in seconds.
  private static let waitLimit = 300.0

  init(_ settings: HubSettings) { self.settings = settings }

  /// An answer behind redirects, and how it came about.
  struct Reply {
    var answer: WebAnswer
    /// Who gave it.
    var address: WebAddress
    /// The first answer, which says what the hub knows of a file.
    var first: WebAnswer
  }

  // MARK: one request

  /// Sends a request, and follows redirects. The token goes to the first server alone: once an answer leads to another scheme, host
  /// or port, it stays behind for good.
  /// - Throws: `RequestError` usage for an address without encryption that nobody allowed; `NET_ACCESS` for redirects that lead
  ///   nowhere; interrupted.
  func send(_ start: WebAddress, token: String?, range: Range<Int>? = nil, _ sink: any BodySink) throws
    -> Reply
  {
    var (address, token) = (start, token)
    var first: WebAnswer?
    for _ in 0...WebClient.redirectLimit {
      try requireAllowed(address, from: start)
      var request = WebRequest(address: address, range: range)
      // What is compressed on the way has other ranges and another length.
      request.headers = ["Accept-Encoding: identity"] + (token.map { ["Authorization: Bearer \($0)"] } ?? [])
      request.answerSeconds = settings.answerSeconds
      request.transferSeconds = settings.transferSeconds
      request.authorities = settings.authorities
      let answer = try connections.with { $0.perform(request, sink) }
      if Interrupt.isRequested { try Interrupt.check() }
      if first == nil { first = answer }
      if answer.status > 0 { isReached.store(true, ordering: .relaxed) }
      guard answer.failure == nil, [301, 302, 303, 307, 308].contains(answer.status) else {
        return Reply(answer: answer, address: address, first: first ?? answer)
      }
      guard let location = answer.headers["location"], let next = address.following(location) else {
        throw FormatError(
          .netAccess, file: start.shown, "the server answered \(answer.status) without an address to go to")
      }
      if !next.isSameOrigin(address) { token = nil }
      address = next
    }
    throw FormatError(
      .netAccess, file: start.shown,
      "more than \(WebClient.redirectLimit) redirects in a row, the last to '\(address.shown)'")
  }

  /// Without encryption only this machine is asked, unless the user said otherwise; and an encrypted answer leads to no other place.
  private func requireAllowed(_ address: WebAddress, from start: WebAddress) throws {
    guard address.scheme == "http", !settings.allowsHTTP else { return }
    guard address.isLoopback, start.scheme == "http", start.isLoopback else {
      throw RequestError(
        .usage, "'\(address.shown)' is not encrypted: whoever is on the way can read and change it",
        help: "give an https:// address, or --allow-http where the network is your own")
    }
  }

  // MARK: second tries

  /// What to do about an answer.
  enum Verdict {
    /// It is what was asked for.
    case good
    /// The same request may succeed later; the least seconds until then, where the server says so.
    case again(String, after: Double?)
    /// It never will.
    case refused(any Error)
  }

  /// What an answer other than the one that was asked for means.
  func verdict(_ reply: Reply, _ name: String) -> Verdict {
    let (answer, first) = (reply.answer, reply.first)
    if let failure = answer.failure {
      let text = "\(reply.address.host): \(failure.message)"
      if failure.isPassing { return .again(text, after: nil) }
      return .refused(RequestError(.io, "cannot fetch '\(name)': \(text)"))
    }
    let reason =
      [answer, first].lazy.compactMap { $0.headers["x-error-message"] }.first
      ?? excerpt(String(decoding: answer.text.prefix { $0 >= 0x20 }, as: UTF8.self), limit: 120)
    let text = "\(reply.address.host) answered \(answer.status)" + (reason.isEmpty ? "" : ": \(reason)")
    switch answer.status {
    case 408, 425, 429, 500, 502, 503, 504: return .again(text, after: WebClient.wait(answer))
    case 200..<300:
      return .refused(
        FormatError(
          .netRange, file: name, "found the answer \(answer.status) to a request for a range, expected 206"))
    case 401, 403, 404, 410, 451: return .refused(FormatError(.netAccess, file: name, text))
    default: return .refused(RequestError(.io, "cannot fetch '\(name)': \(text)"))
    }
  }

  /// Seconds that a server asks to be left alone: `Retry-After`, or the `t` of `RateLimit` where nothing remains.
  static func wait(_ answer: WebAnswer) -> Double? {
    if let seconds = answer.headers["retry-after"].flatMap({ Double($0) }), seconds >= 0 {
      return min(seconds, waitLimit)
    }
    let parts = (answer.headers["ratelimit"] ?? "").split { ";, ".contains($0) }
    guard answer.status == 429, let reset = parts.first(where: { $0.hasPrefix("t=") }) else { return nil }
    return Double(reset.dropFirst(2)).map { min(max(0, $0), waitLimit) }
  }

  /// Waits before a further try. `failures` counts those in a row.
  /// - Throws: `RequestError` io after too many of them; interrupted.
  func pause(_ failures: Int, _ name: String, _ problem: String, after: Double?) throws {
    // A name that nobody knows is more often mistyped than out of order.
    guard failures < (isReached.load(ordering: .relaxed) ? settings.tries : min(settings.tries, 3)) else {
      throw RequestError(
        .io, "cannot fetch '\(name)': \(problem) (tried \(failures) times)",
        help: "try again later; where the result can be resumed, give the same command with --resume")
    }
    // Spread, so that connections that failed together do not come back together.
    let own =
      min(30, settings.firstWait * Double(1 << min(failures - 1, 16))) * Double.random(in: 0.75...1.25)
    let end = monotonicSeconds() + max(own, after ?? 0)
    while monotonicSeconds() < end {
      if Interrupt.isRequested { try Interrupt.check() }
      usleep(UInt32(max(1, min(50_000, (end - monotonicSeconds()) * 1e6))))
    }
  }

  // MARK: whole answers

  /// The body of a response, at most `limit` bytes, with its status and headers. A status in `accepting` is returned, others are
  /// retried or thrown.
  /// - Throws: `NET_LISTING` for a longer body; as `verdict` and `pause` say.
  func get(
    _ address: WebAddress, token: String?, range: Range<Int>? = nil, limit: Int, accepting: Set<Int> = [200]
  ) throws -> (body: [UInt8], reply: Reply) {
    var failures = 0
    while true {
      let sink = WholeBody(limit: limit, accepting: accepting)
      let reply = try send(address, token: token, range: range, sink)
      if reply.answer.failure == nil, accepting.contains(reply.answer.status) {
        guard !sink.isTooLong else {
          throw FormatError(
            .netListing, file: address.shown, "the answer has more than \(limit) bytes")
        }
        return (sink.bytes, reply)
      }
      switch verdict(reply, address.shown) {
      case .good: continue
      case .again(let problem, let after):
        failures += 1
        try pause(failures, address.shown, problem, after: after)
      case .refused(let error): throw error
      }
    }
  }
}

/// Keeps a whole body.
private final class WholeBody: BodySink {
  private let limit: Int
  private let accepting: Set<Int>
  private(set) var bytes: [UInt8] = []
  private(set) var isTooLong = false

  init(limit: Int, accepting: Set<Int>) { (self.limit, self.accepting) = (limit, accepting) }

  func begin(_ answer: WebAnswer) -> Bool { accepting.contains(answer.status) }

  func take(_ new: UnsafeRawBufferPointer) -> Bool {
    isTooLong = bytes.count + new.count > limit
    guard !isTooLong else { return false }
    bytes += new
    return true
  }
}
