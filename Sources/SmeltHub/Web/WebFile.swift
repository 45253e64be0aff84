// A file on a server: ranges of it, each the one that was asked for or none, of the file that it was at first.

import SmeltStorage

internal import Synchronization

/// Fetches ranges of one file; used from any thread.
final class WebFile: RangeSource {
  private let client: WebClient
  /// The address that the file is known by; a hub answers with where it lies today.
  private let address: WebAddress
  private let token: String?
  /// What people call it.
  private let name: String
  /// Its size in bytes.
  let count: Int
  private let state = Mutex(State())

  private struct State {
    /// Where the file lay when it was asked for last, on another server.
    var place: WebAddress?
    /// What each server says the file is: a change of it is a change of the file.
    var marks: [String: String] = [:]
    var change: FormatError?
  }

  /// A file whose size is known. `sample` is an answer that was had before, whose mark is the file's.
  init(
    _ client: WebClient, _ address: WebAddress, token: String?, name: String, count: Int,
    sample: WebClient.Reply? = nil
  ) {
    (self.client, self.address, self.token, self.name, self.count) = (client, address, token, name, count)
    if let sample { _ = note(sample) }
  }

  func checkUnchanged() throws(FormatError) {
    if let change = state.withLock({ $0.change }) { throw change }
  }

  func fetch(_ range: Range<Int>, into memory: UnsafeMutableRawPointer) throws {
    var (done, failures, wrong, lapsed) = (0, 0, 0, 0)
    while done < range.count {
      let left = range.lowerBound + done..<range.upperBound
      let sink = RangeBody(left, of: count, into: memory + done)
      let place = state.withLock { $0.place }
      let reply = try client.send(place ?? address, token: place == nil ? token : nil, range: left, sink)
      let answer = reply.answer
      if answer.status == 206 || answer.status == 416 {
        if let total = RangeBody.total(answer), total != count {
          throw changed("found \(total) bytes, expected \(count)")
        }
      }
      if sink.isAccepted {
        // The mark is looked at before a byte of it counts.
        if let problem = note(reply) { throw changed(problem) }
        remember(reply.address)
        done += sink.count
        if sink.count > 0 { failures = 0 }
        if sink.count == left.count { continue }
        failures += 1
        let problem = answer.failure?.message ?? "the answer ended after \(sink.count) of \(left.count) bytes"
        if answer.failure?.isPassing == false {
          throw RequestError(.io, "cannot fetch '\(name)': \(problem)")
        }
        try client.pause(failures, name, problem, after: nil)
      } else if answer.failure == nil, [200, 206, 416].contains(answer.status) {
        // A server without ranges stays so; one on the way may have failed once.
        wrong += 1
        let problem = RangeBody.problem(answer, left, of: count)
        guard wrong < min(4, client.settings.tries) else {
          throw FormatError(.netRange, file: name, offset: left.lowerBound, problem)
        }
        forget()
        try client.pause(wrong, name, problem, after: nil)
      } else if answer.failure == nil, place != nil, [400, 401, 403, 404, 410].contains(answer.status),
        lapsed < 3
      {
        // The address was signed for a while: the hub gives another.
        lapsed += 1
        forget()
      } else if answer.failure == nil, !reply.address.isSameOrigin(address),
        [401, 403].contains(answer.status), lapsed < 2
      {
        lapsed += 1
        try client.pause(lapsed, name, "\(reply.address.host) answered \(answer.status)", after: nil)
      } else {
        switch client.verdict(reply, name) {
        case .good: break
        case .again(let problem, let after):
          failures += 1
          forget()
          try client.pause(failures, name, problem, after: after)
        case .refused(let error): throw error
        }
      }
    }
  }

  /// Where the file lies on another server is asked there the next time.
  private func remember(_ place: WebAddress) {
    state.withLock { $0.place = place.isSameOrigin(address) ? nil : place }
  }

  private func forget() { state.withLock { $0.place = nil } }

  private func changed(_ problem: String) -> FormatError {
    let error = FormatError(.changed, file: name, "the file on the server is another one now: \(problem)")
    state.withLock { $0.change = error }
    return error
  }

  /// Compares what a server says the file is with what it said before; the difference in words.
  private func note(_ reply: WebClient.Reply) -> String? {
    let headers = reply.answer.headers
    var mark = (headers["etag"] ?? headers["last-modified"] ?? "")[...]
    if mark.hasPrefix("W/") { mark = mark.dropFirst(2) }
    guard !mark.isEmpty else { return nil }
    return state.withLock { state in
      guard let known = state.marks[reply.address.host] else {
        state.marks[reply.address.host] = String(mark)
        return nil
      }
      return known == mark ? nil : "found the mark \(excerpt(String(mark))), expected \(excerpt(known))"
    }
  }
}

/// Takes the body of a range, where the answer's header says that it is the one.
private final class RangeBody: BodySink {
  // SAFETY: `memory` has room for the range, which whoever fetches it vouches for; no more than that is taken.
  private let range: Range<Int>
  private let whole: Int
  private let memory: UnsafeMutableRawPointer
  /// Bytes that came.
  private(set) var count = 0
  private(set) var isAccepted = false

  init(_ range: Range<Int>, of whole: Int, into memory: UnsafeMutableRawPointer) {
    (self.range, self.whole, self.memory) = (range, whole, memory)
  }

  func begin(_ answer: WebAnswer) -> Bool {
    isAccepted = answer.status == 206 && RangeBody.isExactly(answer, range, of: whole)
    return isAccepted
  }

  func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let base = bytes.baseAddress else { return true }
    let taken = min(bytes.count, range.count - count)
    (memory + count).copyMemory(from: base, byteCount: taken)
    count += taken
    return taken == bytes.count
  }

  /// The range and the size of the whole file that an answer's `Content-Range` states.
  private static func stated(_ answer: WebAnswer) -> (first: Int, last: Int, total: Int?)? {
    guard let text = answer.headers["content-range"], text.lowercased().hasPrefix("bytes ") else {
      return nil
    }
    let parts = text.dropFirst(6).split { $0 == "-" || $0 == "/" }
    guard parts.count == 3, let first = Int(parts[0]), let last = Int(parts[1]) else { return nil }
    return (first, last, Int(parts[2]))
  }

  /// The size of the whole file, where an answer states it.
  static func total(_ answer: WebAnswer) -> Int? {
    if let stated = stated(answer) { return stated.total }
    guard let text = answer.headers["content-range"], text.hasPrefix("bytes */") else { return nil }
    return Int(text.dropFirst(8))
  }

  private static func isExactly(_ answer: WebAnswer, _ range: Range<Int>, of whole: Int) -> Bool {
    guard let stated = stated(answer), (answer.headers["content-encoding"] ?? "identity") == "identity" else {
      return false
    }
    return stated.first == range.lowerBound && stated.last == range.upperBound - 1 && stated.total == whole
  }

  static func problem(_ answer: WebAnswer, _ range: Range<Int>, of whole: Int) -> String {
    let asked = "expected bytes \(range.lowerBound)-\(range.upperBound - 1)/\(whole)"
    guard answer.status == 206 else {
      return "found the answer \(answer.status) to a request for a range, \(asked)"
    }
    if let encoding = answer.headers["content-encoding"], encoding != "identity" {
      return "found a body in the encoding \(excerpt(encoding)), \(asked) as they are"
    }
    return "found \(excerpt(answer.headers["content-range"] ?? "no Content-Range")), \(asked)"
  }
}
