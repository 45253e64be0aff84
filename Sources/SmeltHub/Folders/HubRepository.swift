// A repository of the hub: its commit, and its files. Formats/hub.md, section 2.

import SmeltStorage

/// Asks the hub for a repository.
struct HubRepository {
  let client: WebClient
  let name: RepositoryName

  /// The most files, and the most pages of a listing.
  private static let fileLimit = 100_000
  private static let pageLimit = 1000
  private static let pageBytes = 64 << 20

  private func endpoint() throws -> WebAddress {
    guard let address = WebAddress(client.settings.endpoint) else {
      throw RequestError(
        .usage, "HF_ENDPOINT is '\(client.settings.endpoint)', which is no address", help: "give https://host"
      )
    }
    return address
  }

  private func api(_ rest: String) throws -> WebAddress {
    var address = try endpoint()
    address.path =
      (address.path.hasSuffix("/") ? String(address.path.dropLast()) : address.path)
      + "/api/models/\(name.id)/" + rest
    return address
  }

  private func json(_ address: WebAddress) throws -> (JSON, WebAnswer) {
    let (body, reply) = try client.get(address, token: client.settings.token, limit: HubRepository.pageBytes)
    do {
      return (try JSON.scan(Bytes(body)), reply.answer)
    } catch {
      throw FormatError(.netListing, file: address.shown, offset: error.offset, error.problem)
    }
  }

  /// The commit that the revision stands for now.
  /// - Throws: `NET_ACCESS`, `NET_LISTING`; `RequestError` io.
  func commit() throws -> String {
    let address = try api("revision/" + WebAddress.encoded(name.revision))
    let (json, _) = try json(address)
    guard let commit = json["sha"]?.string, HubHash.isOne(commit, 40) else {
      throw FormatError(
        .netListing, file: address.shown, subject: "sha", "found no commit of 40 hexadecimal digits")
    }
    return commit
  }

  /// The files at a commit.
  /// - Throws: as `commit`.
  func files(_ commit: String) throws -> [RemoteEntry] {
    var page: WebAddress? = try api("tree/\(commit)")
    page?.query = "recursive=true&expand=false"
    var entries: [RemoteEntry] = []
    for _ in 0..<HubRepository.pageLimit {
      guard let address = page else { return entries }
      let (json, answer) = try json(address)
      guard let list = json.array else {
        throw FormatError(.netListing, file: address.shown, "found \(json.kind), expected a list of files")
      }
      for item in list where item["type"]?.string != "directory" {
        entries.append(try entry(item, commit, address))
      }
      guard entries.count <= HubRepository.fileLimit else { break }
      page = try HubRepository.next(answer, address)
    }
    throw FormatError(
      .netListing, file: name.id,
      "found more than \(HubRepository.fileLimit) files or \(HubRepository.pageLimit) pages")
  }

  private func entry(_ item: JSON, _ commit: String, _ page: WebAddress) throws -> RemoteEntry {
    guard let path = item["path"]?.string,
      let stated = item["lfs"]?["size"]?.integer ?? item["size"]?.integer, stated >= 0
    else {
      throw FormatError(
        .netListing, file: page.shown, subject: item["path"]?.string,
        "found an entry without a path or a size")
    }
    if let problem = RemotePath.problem(path) {
      throw FormatError(.netListing, file: page.shown, subject: path, problem)
    }
    let hash = item["lfs"]?["oid"]?.string.map { $0.hasPrefix("sha256:") ? String($0.dropFirst(7)) : $0 }
    var address = try endpoint()
    address.path =
      (address.path.hasSuffix("/") ? String(address.path.dropLast()) : address.path)
      + "/\(name.id)/resolve/\(commit)"
    address = address.appending(path)
    let source = WebFile(client, address, token: client.settings.token, name: path, count: stated)
    return RemoteEntry(
      path: path, count: stated, sha256: hash.flatMap { HubHash.isOne($0, 64) ? $0 : nil },
      etag: (hash ?? item["oid"]?.string).flatMap {
        HubHash.isOne($0, 64) || HubHash.isOne($0, 40) ? $0 : nil
      },
      source: source)
  }

  /// The next page of a listing, on the same server: `Link: <…>; rel="next"`.
  private static func next(_ answer: WebAnswer, _ page: WebAddress) throws -> WebAddress? {
    for link in (answer.headers["link"] ?? "").split(separator: ",") where link.contains("rel=\"next\"") {
      guard let open = link.firstIndex(of: "<"), let close = link.firstIndex(of: ">"), open < close,
        let address = page.following(String(link[link.index(after: open)..<close])),
        address.isSameOrigin(page)
      else {
        throw FormatError(.netListing, file: page.shown, "found a next page on another server")
      }
      return address
    }
    return nil
  }
}
