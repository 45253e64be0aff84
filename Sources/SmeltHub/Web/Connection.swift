// One request and its answer through libcurl, without redirects and without a second try.

import CTransfer
import SmeltStorage

internal import Synchronization

/// What is asked for.
struct WebRequest {
  var address: WebAddress
  /// Lines "Name: value".
  var headers: [String] = []
  var range: Range<Int>?
  /// Seconds until the server must have answered, and that the transfer may stand still.
  var answerSeconds = 10
  var transferSeconds = 10
  var authorities: String?
}

/// What a server answered.
struct WebAnswer {
  var status = 0
  /// Names in lower case; of several lines of one name the last.
  var headers: [String: String] = [:]
  /// What went wrong on the way, and whether trying again may help; nil where the answer came whole.
  var failure: (message: String, isPassing: Bool)?
  /// The beginning of a body that nobody took, for messages.
  var text: [UInt8] = []
}

/// Takes the body of an answer.
protocol BodySink: AnyObject {
  /// Whether the answer's body is wanted, once its header is whole; its beginning goes into a message otherwise.
  func begin(_ answer: WebAnswer) -> Bool
  /// Some of the body. Returns false to end the transfer.
  func take(_ bytes: UnsafeRawBufferPointer) -> Bool
}

/// A connection that is kept for the next request; used by one thread at a time.
final class Connection: @unchecked Sendable {
  // SAFETY: the lane is this object's own and is freed with it; `ConnectionPool` hands each one to one thread at a time.
  private let lane: OpaquePointer

  /// The most bytes of an answer's header.
  static let headerLimit = 256 << 10

  /// - Throws: `RequestError` unsupported where the machine has no libcurl.
  init() throws {
    var message = [CChar](repeating: 0, count: 512)
    guard st_load(&message, message.count) == 0 else {
      let text = String(decoding: message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      throw RequestError(
        .unsupported, "models are fetched with libcurl, which cannot be loaded: \(text)",
        help:
          "install it (Debian, Ubuntu: apt install libcurl4; Fedora: dnf install libcurl; Alpine: apk add libcurl), "
          + "or name its file in SMELT_LIBCURL")
    }
    guard let lane = st_lane_make() else {
      throw RequestError(.io, "libcurl cannot start a transfer: no memory")
    }
    self.lane = lane
  }

  deinit { st_lane_free(lane) }

  /// Sends a request, and hands the answer's body to a sink.
  func perform(_ request: WebRequest, _ sink: any BodySink) -> WebAnswer {
    let receiver = Receiver(sink)
    var answer = st_answer()
    withCStrings(request.headers) { headers in
      withOptionalCString(request.range.map { "\($0.lowerBound)-\($0.upperBound - 1)" }) { range in
        withOptionalCString(request.authorities) { authorities in
          request.address.text.withCString { url in
            "smelt".withCString { agent in
              // SAFETY: what the request points to lives until the call returns, and so does the receiver, which the three
              // functions get as their context.
              var asked = st_request()
              (asked.url, asked.headers, asked.header_count) = (
                url, headers.baseAddress, Int32(headers.count)
              )
              (asked.range, asked.user_agent, asked.authorities) = (range, agent, authorities)
              asked.connect_milliseconds = request.answerSeconds * 1000
              (asked.slow_bytes, asked.slow_seconds) = (64, request.transferSeconds)
              asked.context = Unmanaged.passUnretained(receiver).toOpaque()
              asked.on_header = { context, line, count in
                Receiver.of(context).header(UnsafeRawBufferPointer(start: line, count: count)) ? 1 : 0
              }
              asked.on_body = { context, bytes, count in
                Receiver.of(context).body(UnsafeRawBufferPointer(start: bytes, count: count)) ? 1 : 0
              }
              asked.is_stopped = { _ in Interrupt.isRequested ? 1 : 0 }
              st_perform(lane, &asked, &answer)
            }
          }
        }
      }
    }
    return withExtendedLifetime(receiver) {
      var found = receiver.answer
      if found.status == 0 { found.status = answer.status }
      if let reason = receiver.refusal {
        found.failure = (reason, false)
      } else if answer.code != 0, !receiver.isEnded {
        let message = withUnsafeBytes(of: answer.message) {
          String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        found.failure = (message, answer.is_passing != 0)
      }
      return found
    }
  }
}

/// What a transfer brings, as it comes.
private final class Receiver {
  private let sink: any BodySink
  var answer = WebAnswer()
  private var headerBytes = 0
  private var isWanted: Bool?
  /// Why the answer is refused whatever its body.
  var refusal: String?
  /// Whether the sink has ended the transfer.
  var isEnded = false

  init(_ sink: any BodySink) { self.sink = sink }

  static func of(_ context: UnsafeMutableRawPointer?) -> Receiver {
    // SAFETY: the context is the receiver that `perform` keeps alive.
    Unmanaged<Receiver>.fromOpaque(context!).takeUnretainedValue()
  }

  func header(_ bytes: UnsafeRawBufferPointer) -> Bool {
    headerBytes += bytes.count
    guard headerBytes <= Connection.headerLimit else {
      refusal = "the answer's header has more than \(Connection.headerLimit) bytes"
      return false
    }
    let line = String(decoding: bytes, as: UTF8.self)
    if line.hasPrefix("HTTP/") {
      // A proxy's answer, or one that only says that more comes, is followed by the server's own.
      answer.headers = [:]
      let words = line.split(separator: " ")
      answer.status = words.count > 1 ? Int(words[1].prefix { $0.isNumber }) ?? 0 : 0
    } else if let colon = line.firstIndex(of: ":") {
      let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
      answer.headers[line[..<colon].lowercased()] =
        String(value.reversed().drop { $0.isWhitespace || $0.isNewline }.reversed())
    }
    return true
  }

  func body(_ bytes: UnsafeRawBufferPointer) -> Bool {
    if isWanted == nil { isWanted = sink.begin(answer) }
    guard isWanted == true else {
      answer.text += bytes.prefix(max(0, 1024 - answer.text.count))
      // The rest says no more; a connection that has little left is kept by reading it.
      isEnded = answer.text.count >= 1024
      return !isEnded
    }
    guard sink.take(bytes) else {
      isEnded = true
      return false
    }
    return true
  }
}

/// Connections that wait for their next request.
final class ConnectionPool: Sendable {
  private let free = Mutex<[Connection]>([])

  /// Lends a connection.
  /// - Throws: `RequestError` unsupported where the machine has no libcurl; what `body` throws.
  func with<R>(_ body: (Connection) throws -> R) throws -> R {
    let connection = try free.withLock { $0.popLast() } ?? Connection()
    defer { free.withLock { $0.append(connection) } }
    return try body(connection)
  }
}

/// Lends strings as C has them.
private func withCStrings<R>(_ strings: [String], _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) -> R)
  -> R
{
  var text: [CChar] = []
  let starts = strings.map { string -> Int in
    defer { text += string.utf8CString }
    return text.count
  }
  return text.withUnsafeBufferPointer { text in
    // SAFETY: the strings lie one behind another in `text`, each with its zero byte.
    let pointers = starts.map { start in text.baseAddress.map { $0 + start } }
    return pointers.withUnsafeBufferPointer { body($0) }
  }
}

private func withOptionalCString<R>(_ string: String?, _ body: (UnsafePointer<CChar>?) -> R) -> R {
  guard let string else { return body(nil) }
  return string.withCString { body($0) }
}
