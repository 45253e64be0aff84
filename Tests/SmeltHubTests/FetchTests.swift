// Files that are fetched, and servers that fail in every way that they do: the bytes are right, or there is an error.

import SmeltStorage
import SmeltTestSupport
import Synchronization
import Testing

@testable import SmeltHub

@Suite struct FetchTests {
  private static let weights = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }
  private static let files: [String: [UInt8]] = [
    "config.json": Array("{}".utf8), "empty.txt": [], "model.safetensors": weights,
    "sub/notes.txt": Array("notes".utf8),
    "tokenizer.json": Array("[]".utf8),
  ]

  /// What reading the weights in some pieces gives.
  private func read(_ path: String) throws -> [UInt8] {
    let bytes = try MappedFile(path: joinPath(path, "model.safetensors")).bytes
    var all: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 700_001) {
      all += try bytes[start..<min(bytes.count, start + 700_001)].fetched().array
    }
    return all
  }

  @Test func aRepositoryIsAFolder() throws {
    let hub = HubServer(Self.files)
    let path = try hub.mount()
    #expect(path == "hf://\(hub.id)")
    #expect(
      try namesInFolder(path) == ["config.json", "empty.txt", "model.safetensors", "sub", "tokenizer.json"])
    #expect(try namesInFolder(joinPath(path, "sub")) == ["notes.txt"])
    #expect(pathKind(path) == .directory && pathKind(joinPath(path, "sub")) == .directory)
    #expect(pathKind(joinPath(path, "config.json")) == .file && pathKind(joinPath(path, "x")) == .nothing)
    #expect(fileByteCount(joinPath(path, "model.safetensors")) == Self.weights.count)
    for (name, bytes) in Self.files {
      #expect(try MappedFile(path: joinPath(path, name)).bytes.array == bytes, "\(name)")
    }
    #expect(try read(path) == Self.weights)
    #expect(Hub.origin(path)?.commit == HubServer.commit)
    #expect(throws: FormatError.self) { try MappedFile(path: joinPath(path, "x")) }
    #expect(throws: FormatError.self) { try MappedFile(path: joinPath(path, "sub")) }
  }

  /// The token goes to the hub, and to nobody else.
  @Test func theTokenStaysWithItsServer() throws {
    let hub = HubServer(Self.files)
    _ = try read(try hub.mount())
    let log = hub.server.log
    #expect(log.contains { $0.path.hasPrefix("/cdn/") })
    for request in log {
      let isElsewhere = request.path.hasPrefix("/cdn/")
      #expect(request.headers["authorization"] == (isElsewhere ? nil : "Bearer secret"), "\(request.path)")
      #expect(request.headers["host"]?.hasPrefix(isElsewhere ? "localhost:" : "127.0.0.1:") == true)
    }
  }

  /// A redirect back to the hub does not bring the token back.
  @Test func theTokenStaysBehindForGood() throws {
    let port = Mutex(0)
    let hub = HubServer(Self.files) { request, reply in
      let port = port.withLock { $0 }
      if request.path.hasPrefix("/cdn/") {
        return FileServer.Reply(302, ["Location": "http://127.0.0.1:\(port)/back"])
      }
      return request.path == "/back" ? FileServer.Reply(Self.weights, request) : reply
    }
    port.withLock { $0 = hub.server.port }
    #expect(try read(try hub.mount()) == Self.weights)
    let back = hub.server.log.filter { $0.path == "/back" }
    #expect(!back.isEmpty && back.allSatisfy { $0.headers["authorization"] == nil })
  }

  /// Every fault of the list, again and again.
  @Test(arguments: [
    "cut", "empty", "500", "503", "429", "408", "403", "short", "shifted", "whole", "total", "none",
    "hang up",
  ])
  func faultsThatPass(fault: String) throws {
    let count = Mutex(0)
    let hub = HubServer(Self.files) { request, reply in
      guard request.path.hasPrefix("/cdn/"), reply.status == 206 else { return reply }
      // Every second answer of a file of weights is broken.
      let number = count.withLock { count in
        count += 1
        return count
      }
      guard number.isMultiple(of: 2) else { return reply }
      return Self.broken(reply, fault)
    }
    #expect(try read(try hub.mount()) == Self.weights, "\(fault)")
    #expect(count.withLock { $0 } > 2)
  }

  static func broken(_ reply: FileServer.Reply, _ fault: String) -> FileServer.Reply {
    var bad = reply
    switch fault {
    case "cut": bad.cut = reply.body.count / 2
    case "empty": bad.cut = 0
    case "500", "503", "408", "403": bad = FileServer.Reply(Int(fault) ?? 500, [:], Array("no".utf8))
    case "429": bad = FileServer.Reply(429, ["Retry-After": "0.01"])
    case "short": bad.body = Array(reply.body.dropLast(reply.body.count / 3))
    case "shifted":
      let range = reply.headers["Content-Range"] ?? ""
      bad.headers["Content-Range"] = range.replacing(first: "bytes ", "bytes 1")
    case "whole": bad = FileServer.Reply(200, ["ETag": "\"one\""], Array(weights.prefix(2_000_000)))
    case "none": bad.headers["Content-Range"] = nil
    case "hang up":
      bad = FileServer.Reply(206)
      bad.headers["Content-Length"] = "10"
      bad.cut = 0
    default:
      bad.headers["Content-Range"] = (reply.headers["Content-Range"] ?? "").replacing(
        first: "bytes ", "bits ")
    }
    return bad
  }

  /// The address of the other host is good for a while.
  @Test func expiredAddressesAreResolvedAgain() throws {
    let hub = HubServer(Self.files)
    let path = try hub.mount()
    let bytes = try MappedFile(path: joinPath(path, "model.safetensors")).bytes
    for start in [0, 1_000_000, 2_500_000] {
      #expect(try bytes[start..<start + 10].fetched().array == Array(Self.weights[start..<start + 10]))
      hub.expire()
    }
    #expect(hub.server.log.contains { $0.path.hasPrefix("/cdn/") && $0.query == "signed=3" })
  }

  private func error(_ change: @escaping @Sendable (FileServer.Request, FileServer.Reply) -> FileServer.Reply)
    -> any Error
  {
    let hub = HubServer(Self.files, change: change)
    do {
      _ = try read(try hub.mount { $0.tries = 3 })
    } catch {
      return error
    }
    return RequestError(.usage, "no error")
  }

  @Test func faultsThatStay() {
    let always: [(String, String, Int32)] = [
      ("cut", "io", 74), ("500", "io", 74), ("whole", "NET_RANGE", 2), ("shifted", "NET_RANGE", 2),
      ("403", "NET_ACCESS", 2),
    ]
    for (fault, code, status) in always {
      let found = error { request, reply in
        request.path.hasPrefix("/cdn/") ? Self.broken(reply, fault) : reply
      }
      if let found = found as? FormatError {
        #expect(found.code.name == code && found.exitStatus == status, "\(fault): \(found)")
        #expect(found.file == "model.safetensors", "\(fault)")
      } else {
        let found = found as? RequestError
        #expect(
          found?.kind.rawValue == code && found?.exitStatus == status,
          "\(fault): \(String(describing: found))")
      }
    }
  }

  @Test func aFileThatChangesIsRefused() {
    for what in ["etag", "size"] {
      let found = error { request, reply in
        guard request.path.hasPrefix("/cdn/"), request.range(of: .max)?.lowerBound ?? 0 > 500_000 else {
          return reply
        }
        if what == "size" { return FileServer.Reply(Self.weights + [1], request) }
        return FileServer.Reply(Self.weights, request, etag: "\"two\"")
      }
      #expect((found as? FormatError)?.code == .changed, "\(what): \(found)")
    }
    let missing = error { request, reply in
      request.path.hasPrefix("/cdn/") ? FileServer.Reply(416, ["Content-Range": "bytes */7"]) : reply
    }
    #expect((missing as? FormatError)?.code == .changed, "\(missing)")
  }

  @Test func listingsThatLie() {
    let lies = [
      #"[{"type": "file", "path": "../../etc/passwd", "size": 3}]"#,
      #"[{"type": "file", "path": "/etc/passwd", "size": 3}]"#,
      #"[{"type": "file", "path": "a", "size": -3}]"#, #"[{"type": "file", "path": "a"}]"#,
      #"{"error": "x"}"#, "<html>", "[1]",
      #"[{"type": "file", "path": "a", "size": 1}, {"type": "file", "path": "a", "size": 1}]"#,
      #"[{"type": "file", "path": "a", "size": 1}, {"type": "file", "path": "a/b", "size": 1}]"#,
    ]
    for lie in lies {
      let found = error { request, reply in
        request.path.contains("/tree/") ? FileServer.Reply(200, [:], Array(lie.utf8)) : reply
      }
      #expect((found as? FormatError)?.code == .netListing, "\(lie): \(found)")
    }
    let elsewhere = error { request, reply in
      request.path.contains("/tree/")
        ? FileServer.Reply(200, ["Link": "<http://localhost:1/x>; rel=\"next\""], Array("[]".utf8)) : reply
    }
    #expect((elsewhere as? FormatError)?.code == .netListing, "\(elsewhere)")
    let noCommit = error { request, reply in
      request.path.contains("/revision/")
        ? FileServer.Reply(200, [:], Array(#"{"sha": "../../x"}"#.utf8)) : reply
    }
    #expect((noCommit as? FormatError)?.code == .netListing, "\(noCommit)")
  }

  @Test func gatedAndMissing() {
    let gated =
      error { request, reply in
        request.path.contains("/revision/")
          ? FileServer.Reply(401, ["X-Error-Message": "Access to model org/name is restricted"]) : reply
      } as? FormatError
    #expect(
      gated?.code == .netAccess && gated?.problem.contains("restricted") == true && gated?.exitStatus == 2)
  }

  /// A file beside the weights is held against its hash before a byte of it is used.
  @Test func hashesOfSmallFiles() throws {
    for isBad in [false, true] {
      let hub = HubServer(Self.files, large: [".json", ".safetensors"]) { request, reply in
        guard isBad, request.path == "/cdn/tokenizer.json", reply.status == 206 else { return reply }
        var bad = reply
        bad.body[0] ^= 1
        return bad
      }
      let file = try MappedFile(path: joinPath(try hub.mount(), "tokenizer.json"))
      if isBad {
        let found = #expect(throws: FormatError.self) { try file.bytes.fetched() }
        #expect(found?.code == .netHash && found?.file == "tokenizer.json")
      } else {
        #expect(try file.bytes.fetched().array == Self.files["tokenizer.json"])
        #expect(try file.bytes[1..<2].fetched().array == [UInt8(ascii: "]")])
      }
    }
  }

  @Test func redirectsEnd() {
    let loop = error { request, reply in
      request.path.hasPrefix("/cdn/") ? FileServer.Reply(302, ["Location": request.path]) : reply
    }
    #expect((loop as? FormatError)?.code == .netAccess, "\(loop)")
    let nowhere = error { request, reply in request.path.hasPrefix("/cdn/") ? FileServer.Reply(302) : reply }
    #expect((nowhere as? FormatError)?.code == .netAccess, "\(nowhere)")
    let plain = error { request, reply in
      request.path.hasPrefix("/cdn/") ? FileServer.Reply(302, ["Location": "http://192.0.2.1/x"]) : reply
    }
    #expect((plain as? RequestError)?.kind == .usage, "\(plain)")
    let file = error { request, reply in
      request.path.hasPrefix("/cdn/") ? FileServer.Reply(302, ["Location": "file:///etc/passwd"]) : reply
    }
    #expect((file as? FormatError)?.code == .netAccess, "\(file)")
  }

  @Test func headersAreBounded() {
    let long = error { request, reply in
      guard request.path.hasPrefix("/cdn/") else { return reply }
      var bad = reply
      for number in 0..<600 { bad.headers["X-\(number)"] = String(repeating: "x", count: 1000) }
      return bad
    }
    #expect((long as? RequestError)?.kind == .io, "\(long)")
  }

  /// A folder that lists nothing: the index names the shards.
  @Test func aPlainFolder() throws {
    let names = (1...5).map { "model-0000\($0)-of-00005.safetensors" }
    let map = JSON(members: names.map { ($0 + ".w", JSON($0)) })
    var files = Self.files
    files["model.safetensors"] = nil
    files["model.safetensors.index.json"] = Array(JSON(members: [("weight_map", map)]).text().utf8)
    for name in names { files[name] = Array(Self.weights.prefix(400_000)) }
    let served = files
    let server = FileServer { request in
      guard request.path.hasPrefix("/m/"), let bytes = served[String(request.path.dropFirst(3))] else {
        return FileServer.Reply(404)
      }
      return FileServer.Reply(bytes, request)
    }
    let path = try Hub.path(server.address("/m"), RemoteOptions(), HubSettings { _ in nil })
    #expect(path == server.address("/m"))
    #expect(
      try namesInFolder(path)
        == (["config.json", "model.safetensors.index.json", "tokenizer.json"] + names).sorted())
    for name in names { #expect(try MappedFile(path: joinPath(path, name)).bytes.array == served[name]) }
    // One request for the header and what lies behind it, one for the rest.
    for name in names { #expect(server.log.count { $0.path == "/m/\(name)" } <= 2) }
    #expect(server.log.allSatisfy { $0.headers["authorization"] == nil })
  }

  @Test func aServerWithoutRanges() throws {
    let server = FileServer { request in
      request.path == "/m/config.json" ? FileServer.Reply(200, [:], Array("{}".utf8)) : FileServer.Reply(404)
    }
    var settings = HubSettings { _ in nil }
    settings.tries = 2
    settings.firstWait = 0.001
    let found = #expect(throws: (any Error).self) {
      try Hub.path(server.address("/m/"), RemoteOptions(), settings)
    }
    #expect((found as? FormatError)?.code == .netRange, "\(String(describing: found))")
  }

  @Test func encryptionIsAsked() {
    let found = #expect(throws: RequestError.self) {
      try Hub.path("http://192.0.2.1/m/", RemoteOptions(), HubSettings { _ in nil })
    }
    #expect(found?.kind == .usage && found?.help?.contains("--allow-http") == true)
  }

  @Test func whatServersAskToWait() {
    func wait(_ status: Int, _ headers: [String: String]) -> Double? {
      var answer = WebAnswer()
      (answer.status, answer.headers) = (status, headers)
      return WebClient.wait(answer)
    }
    #expect(wait(503, ["retry-after": "7"]) == 7 && wait(503, ["retry-after": "99999"]) == 300)
    #expect(wait(429, ["ratelimit": "\"api\";r=0;t=55"]) == 55 && wait(429, [:]) == nil)
    #expect(
      wait(503, ["retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"]) == nil
        && wait(503, ["retry-after": "-1"]) == nil)
  }
}

extension String {
  fileprivate func replacing(first old: String, _ new: String) -> String {
    hasPrefix(old) ? new + dropFirst(old.count) : self
  }
}
