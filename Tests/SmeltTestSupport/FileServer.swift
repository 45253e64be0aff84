// A web server on this machine for tests: what it answers, and how it fails, is a closure's. HTTP/1.1 as far as a reader of ranges
// needs it.

internal import SmeltStorage
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A server on 127.0.0.1, and on `localhost`, which is another host to whoever compares names.
package final class FileServer: Sendable {
  /// What was asked.
  package struct Request: Sendable {
    /// The target without its query.
    package var path = ""
    package var query = ""
    /// Names in lower case.
    package var headers: [String: String] = [:]
    /// The number of this request, from 0.
    package var number = 0

    /// The range that is asked for of a file of so many bytes; nil without one.
    package func range(of count: Int) -> Range<Int>? {
      guard let text = headers["range"], text.hasPrefix("bytes=") else { return nil }
      let parts = text.dropFirst(6).split(separator: "-").compactMap { Int($0) }
      guard parts.count == 2, parts[0] <= parts[1] else { return nil }
      return parts[0]..<min(count, parts[1] + 1)
    }
  }

  /// What is answered.
  package struct Reply: Sendable {
    package var status: Int
    package var headers: [String: String]
    package var body: [UInt8]
    /// Bytes of the body after which the connection is closed; nil where all of it is sent.
    package var cut: Int?

    /// A literal answer.
    package init(_ status: Int, _ headers: [String: String] = [:], _ body: [UInt8] = []) {
      (self.status, self.headers, self.body) = (status, headers, body)
    }

    /// A file, or the range of it that is asked for.
    package init(_ bytes: [UInt8], _ request: Request, etag: String = "\"one\"") {
      guard request.headers["range"] != nil else {
        self.init(200, ["ETag": etag], bytes)
        return
      }
      guard let range = request.range(of: bytes.count), range.lowerBound < bytes.count else {
        self.init(416, ["Content-Range": "bytes */\(bytes.count)"])
        return
      }
      self.init(
        206,
        ["ETag": etag, "Content-Range": "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(bytes.count)"],
        Array(bytes[range]))
    }
  }

  private let listener: Int32
  /// The port.
  package let port: Int
  private let answer: @Sendable (Request) -> Reply
  private let requests = Mutex<[Request]>([])
  private let open = Mutex<Set<Int32>>([])

  /// Starts to serve.
  package init(_ answer: @escaping @Sendable (Request) -> Reply) {
    self.answer = answer
    signal(SIGPIPE, SIG_IGN)
    #if canImport(Glibc)
      listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      listener = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { [listener] address in
      address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        precondition(bind(listener, address, size) == 0 && listen(listener, 128) == 0, "no socket")
        getsockname(listener, address, &size)
      }
    }
    port = Int(UInt16(bigEndian: address.sin_port))
    startDetachedThread { [listener, weak self] in
      while true {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else { return }
        guard let server = self else {
          close(connection)
          return
        }
        _ = server.open.withLock { $0.insert(connection) }
        startDetachedThread { [weak server] in FileServer.serve(connection) { server } }
      }
    }
  }

  deinit {
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
    open.withLock { for connection in $0 { shutdown(connection, Int32(SHUT_RDWR)) } }
  }

  /// The server's address; `host` may be `localhost`.
  package func address(_ path: String, host: String = "127.0.0.1") -> String {
    "http://\(host):\(port)\(path)"
  }

  /// What was asked until now.
  package var log: [Request] { requests.withLock { $0 } }

  private static func serve(_ connection: Int32, _ server: () -> FileServer?) {
    defer {
      _ = server()?.open.withLock { $0.remove(connection) }
      close(connection)
    }
    var buffer: [UInt8] = []
    while var request = read(connection, &buffer) {
      guard let server = server() else { return }
      request.number = server.requests.withLock { requests in
        request.number = requests.count
        requests.append(request)
        return request.number
      }
      let reply = server.answer(request)
      var head = "HTTP/1.1 \(reply.status) X\r\n"
      for (name, value) in reply.headers.sorted(by: { $0.key < $1.key }) { head += "\(name): \(value)\r\n" }
      if reply.headers["Content-Length"] == nil { head += "Content-Length: \(reply.body.count)\r\n" }
      guard write(connection, Array((head + "\r\n").utf8)[...]),
        write(connection, reply.body.prefix(reply.cut ?? .max)), reply.cut == nil
      else { return }
    }
  }

  /// The next request of a connection; nil when it is over.
  private static func read(_ connection: Int32, _ buffer: inout [UInt8]) -> Request? {
    let end: [UInt8] = [13, 10, 13, 10]
    while true {
      if let place = buffer.indices.first(where: { buffer[$0...].starts(with: end) }) {
        let lines = String(decoding: buffer[..<place], as: UTF8.self).split(separator: "\r\n")
        buffer.removeFirst(place + 4)
        let words = (lines.first ?? "").split(separator: " ")
        guard words.count == 3 else { return nil }
        var request = Request()
        let target = words[1].split(separator: "?", maxSplits: 1)
        request.path = String(target[0])
        request.query = target.count > 1 ? String(target[1]) : ""
        for line in lines.dropFirst() {
          guard let colon = line.firstIndex(of: ":") else { continue }
          request.headers[line[..<colon].lowercased()] = String(
            line[line.index(after: colon)...].drop { $0 == " " })
        }
        return request
      }
      var chunk = [UInt8](repeating: 0, count: 4096)
      let count = recv(connection, &chunk, chunk.count, 0)
      guard count > 0 else { return nil }
      buffer += chunk.prefix(count)
    }
  }

  private static func write(_ connection: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
    var left = bytes
    while !left.isEmpty {
      let count = left.withUnsafeBytes { send(connection, $0.baseAddress, $0.count, 0) }
      guard count > 0 else { return false }
      left = left.dropFirst(count)
    }
    return true
  }
}
