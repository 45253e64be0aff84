// A hub on this machine: one repository whose files lie on another host, behind addresses that are signed for a while.

internal import SmeltStorage
import Synchronization

/// Serves files as a repository of a name of its own, since what is mounted stays; what a test changes of an answer is a closure's.
package final class HubServer: Sendable {
  /// Its one commit.
  package static let commit = String(repeating: "c0ffee12", count: 5)
  private static let made = Mutex(0)
  /// What answers.
  package let server: FileServer
  /// `org/name`.
  package let id: String
  private let signature: Signature

  private final class Signature: Sendable {
    let number = Mutex(1)
    let port = Mutex(0)
  }

  /// Starts to serve.
  /// - Parameters:
  ///   - files: contents by path.
  ///   - large: endings of paths that are stored as the hub stores large files, on the other host, with a SHA-256.
  ///   - change: gets each request and the answer that would be given.
  package init(
    _ files: [String: [UInt8]], large: [String] = [".safetensors"],
    change: @escaping @Sendable (FileServer.Request, FileServer.Reply) -> FileServer.Reply = { $1 }
  ) {
    let id = HubServer.made.withLock { made in
      made += 1
      return "org/name\(made)"
    }
    self.id = id
    let signature = Signature()
    self.signature = signature
    server = FileServer { request in
      change(request, HubServer.reply(request, id, files, large, signature))
    }
    signature.port.withLock { [server] in $0 = server.port }
  }

  /// What was signed until now is not accepted any more.
  package func expire() { signature.number.withLock { $0 += 1 } }

  /// The files of a folder.
  package static func files(_ folder: String) throws -> [String: [UInt8]] {
    var files: [String: [UInt8]] = [:]
    for name in try namesInFolder(folder) where pathKind(joinPath(folder, name)) == .file {
      files[name] = try MappedFile(path: joinPath(folder, name)).bytes.array
    }
    return files
  }

  private static func reply(
    _ request: FileServer.Request, _ id: String, _ files: [String: [UInt8]], _ large: [String],
    _ signature: Signature
  ) -> FileServer.Reply {
    let api = "/api/models/\(id)/"
    if request.path.hasPrefix(api + "revision/") {
      return FileServer.Reply(200, [:], Array("{\"sha\": \"\(commit)\"}".utf8))
    }
    if request.path == api + "tree/\(commit)" {
      // Two files a page, as a long listing comes.
      let names = files.keys.sorted()
      let first =
        request.query.split(separator: "&").first { $0.hasPrefix("cursor=") }.flatMap { Int($0.dropFirst(7)) }
        ?? 0
      let page = names[first..<min(names.count, first + 2)]
      let list = JSON(
        page.map { name -> JSON in
          let bytes = files[name] ?? []
          guard large.contains(where: { name.hasSuffix($0) }) else {
            return [
              "type": "file", "path": JSON(name), "size": JSON(bytes.count),
              "oid": JSON(String(SHA256.hex(Bytes(bytes)).prefix(40))),
            ]
          }
          return [
            "type": "file", "path": JSON(name), "size": JSON(bytes.count),
            "lfs": ["oid": JSON(SHA256.hex(Bytes(bytes))), "size": JSON(bytes.count)],
          ]
        })
      let next = first + 2 < names.count
      return FileServer.Reply(
        200, next ? ["Link": "<\(request.path)?recursive=true&cursor=\(first + 2)>; rel=\"next\""] : [:],
        Array(list.text().utf8))
    }
    let resolve = "/\(id)/resolve/\(commit)/"
    if request.path.hasPrefix(resolve), let bytes = files[String(request.path.dropFirst(resolve.count))] {
      let name = String(request.path.dropFirst(resolve.count))
      guard large.contains(where: { name.hasSuffix($0) }) else {
        return FileServer.Reply(bytes, request, etag: "\"\(name)\"")
      }
      let number = signature.number.withLock { $0 }
      let port = signature.port.withLock { $0 }
      return FileServer.Reply(302, ["Location": "http://localhost:\(port)/cdn/\(name)?signed=\(number)"])
    }
    if request.path.hasPrefix("/cdn/"), let bytes = files[String(request.path.dropFirst(5))] {
      guard request.query == "signed=\(signature.number.withLock { $0 })" else {
        return FileServer.Reply(403)
      }
      return FileServer.Reply(bytes, request)
    }
    return FileServer.Reply(404, ["X-Error-Message": "Entry not found"])
  }
}
