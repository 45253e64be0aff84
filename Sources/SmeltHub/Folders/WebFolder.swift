// A folder or a file at a plain address, which lists nothing: what belongs to a model is known by its name. Formats/hub.md, section 3.

import SmeltStorage

internal import Synchronization

/// Asks a server for the files of a model.
struct WebFolder {
  let client: WebClient
  /// The folder's address, with a slash at its end.
  let address: WebAddress

  /// Files beside the weights that models are published with.
  static let knownNames = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "tiktoken.model",
    "chat_template.jinja",
    "chat_template.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json",
    "hf_quant_config.json", "configuration.json", "params.json", "README.md", "LICENSE",
  ]
  private static let index = "model.safetensors.index.json"
  /// Requests at a time.
  private static let lanes = Parallel(threads: PagePool.lanes)
  /// The most bytes of an index.
  private static let indexBytes = 256 << 20

  /// The files of a folder: those that are known by name, and the shards that its index names.
  /// - Throws: `NET_RANGE`; `RequestError` io.
  func folder() throws -> [RemoteEntry] {
    let single = "model.safetensors"
    let first = try entries(WebFolder.knownNames + [WebFolder.index, single], isNeeded: false)
    guard let index = first.first(where: { $0.path == WebFolder.index }) else { return first }
    let known = Set(first.map(\.path))
    let file = try FetchedFile(count: index.count, from: index.source)
    file.provide(index.head)
    guard file.count <= WebFolder.indexBytes else { return first }
    // What is wrong with an index is said by whoever reads it in its place.
    guard let names = try? shards(Bytes(fetching: file)) else { return first }
    return first + (try entries(names.filter { !known.contains($0) }, isNeeded: false))
  }

  private func shards(_ bytes: Bytes) throws -> [String] {
    guard let map = try JSON.scan(try bytes.fetched())["weight_map"]?.object else { return [] }
    let names = Set(map.values.compactMap(\.string)).filter {
      !$0.contains("/") && RemotePath.problem($0) == nil
    }
    return names.sorted()
  }

  /// One file, and the others of its set where its name says that there are several.
  func file(_ name: String) throws -> [RemoteEntry] {
    try entries(WebFolder.siblings(name), isNeeded: true)
  }

  /// The names of all parts of `x-00001-of-00003.gguf`.
  static func siblings(_ name: String) -> [String] {
    guard let dot = name.lastIndex(of: ".") else { return [name] }
    let (stem, ending) = (name[..<dot], name[dot...])
    let parts = stem.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count >= 4, parts[parts.count - 2] == "of", parts[parts.count - 3].count == 5,
      parts[parts.count - 1].count == 5,
      Int(parts[parts.count - 3]) != nil, let count = Int(parts[parts.count - 1]), (1...65535).contains(count)
    else { return [name] }
    let prefix = parts.dropLast(3).joined(separator: "-")
    return (1...count).map { prefix + partEnding($0, of: count) + ending }
  }

  /// What the server says of files, each by one request for its beginning. Without `isNeeded` those that are not there are left out.
  private func entries(_ names: [String], isNeeded: Bool) throws -> [RemoteEntry] {
    let found = Mutex<[Int: RemoteEntry]>([:])
    try WebFolder.lanes.forEach(names.count) { (place: Int) throws -> Void in
      let entry = try entry(names[place], isNeeded: isNeeded)
      found.withLock { $0[place] = entry }
    }
    return found.withLock { found in names.indices.compactMap { found[$0] } }
  }

  private func entry(_ name: String, isNeeded: Bool) throws -> RemoteEntry? {
    var place = address.appending(name)
    place.query = address.query
    let range = 0..<RemoteFolder.headBytes
    do {
      let (body, reply) = try client.get(
        place, token: nil, range: range, limit: range.count + 1, accepting: [206, 416])
      let stated = reply.answer.headers["content-range"] ?? "no Content-Range"
      let count = stated.split(separator: "/").last.flatMap { Int($0) }
      guard let count,
        reply.answer.status == 416 ? count == 0 : stated == "bytes 0-\(min(count, range.count) - 1)/\(count)",
        reply.answer.status == 416 || body.count == min(count, range.count)
      else {
        throw FormatError(
          .netRange, file: place.shown,
          "found \(excerpt(stated)) and \(body.count) bytes, expected bytes 0-\(range.count - 1)")
      }
      let source = WebFile(client, place, token: nil, name: place.shown, count: count, sample: reply)
      return RemoteEntry(path: name, count: count, source: source, head: count == 0 ? [] : body)
    } catch let error as FormatError where error.code == .netAccess && !isNeeded {
      return nil
    }
  }
}
