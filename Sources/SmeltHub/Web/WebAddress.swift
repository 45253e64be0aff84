// Addresses on the web, as far as files are fetched from them. Source: RFC 3986.

import SmeltStorage

/// An `http` or `https` address.
struct WebAddress: Sendable, Hashable {
  /// `http` or `https`.
  let scheme: String
  /// The host in lower case; an IPv6 address without its brackets.
  let host: String
  let port: Int
  /// The path, percent-encoded, from its first slash on.
  var path: String
  /// What follows the question mark, without it.
  var query: String?

  private init(scheme: String, host: String, port: Int, path: String, query: String?) {
    (self.scheme, self.host, self.port, self.path, self.query) = (scheme, host, port, path, query)
  }

  /// Parses an `http` or `https` URL; nil where the text is not one. URLs with a user name or a password are rejected:
  /// tokens come from the environment or a token file.
  init?(_ text: String) {
    guard let colon = text.firstIndex(of: ":"), text[colon...].hasPrefix("://"),
      text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
    else { return nil }
    scheme = text[..<colon].lowercased()
    guard scheme == "http" || scheme == "https" else { return nil }
    var rest = text[colon...].dropFirst(3)
    if let fragment = rest.firstIndex(of: "#") { rest = rest[..<fragment] }
    let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
    let authority = rest[..<end]
    guard !authority.contains("@"), !authority.contains("\\") else { return nil }
    let usual = scheme == "https" ? 443 : 80
    var name = authority
    var number: Substring?
    if authority.hasPrefix("[") {
      guard let close = authority.firstIndex(of: "]") else { return nil }
      name = authority[authority.index(after: authority.startIndex)..<close]
      let after = authority[authority.index(after: close)...]
      guard after.isEmpty || after.hasPrefix(":") else { return nil }
      number = after.isEmpty ? nil : after.dropFirst()
    } else if let colon = authority.lastIndex(of: ":") {
      name = authority[..<colon]
      number = authority[authority.index(after: colon)...]
    }
    guard !name.isEmpty, authority.hasPrefix("[") || !name.contains(":") else { return nil }
    if let number, !number.isEmpty {
      guard let value = Int(number), (1...65535).contains(value) else { return nil }
      port = value
    } else {
      port = usual
    }
    host = name.lowercased()
    rest = rest[end...]
    if let question = rest.firstIndex(of: "?") {
      query = String(rest[rest.index(after: question)...])
      rest = rest[..<question]
    }
    path = rest.isEmpty ? "/" : String(rest)
  }

  /// The address as it is asked for.
  var text: String {
    let name = host.contains(":") ? "[\(host)]" : host
    let usual = scheme == "https" ? 443 : 80
    return "\(scheme)://\(name)\(port == usual ? "" : ":\(port)")\(path)" + (query.map { "?\($0)" } ?? "")
  }

  /// The same without what is signed or secret in it, for people.
  var shown: String {
    var plain = self
    plain.query = nil
    return plain.text + (query == nil ? "" : "?…")
  }

  /// Whether two addresses are of one server, which may see what the other is told.
  func isSameOrigin(_ other: WebAddress) -> Bool {
    scheme == other.scheme && host == other.host && port == other.port
  }

  /// Whether the host is this machine.
  var isLoopback: Bool {
    if host == "localhost" || host.hasSuffix(".localhost") || host == "::1" { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
    return parts.count == 4 && parts.allSatisfy { $0 != nil } && parts[0] == 127
  }

  /// Where a `Location` of an answer from here leads; nil for what is no address.
  func following(_ location: String) -> WebAddress? {
    if location.contains("://"), let colon = location.firstIndex(of: ":"),
      location[..<colon].allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "+-.".contains($0)) })
    {
      return WebAddress(location)
    }
    if location.hasPrefix("//") { return WebAddress("\(scheme):\(location)") }
    var target = self
    if let fragment = location.firstIndex(of: "#") { return following(String(location[..<fragment])) }
    let question = location.firstIndex(of: "?")
    let path = location[..<(question ?? location.endIndex)]
    target.query = question.map { String(location[location.index(after: $0)...]) }
    if path.isEmpty { return WebAddress(target.text) }
    let folder = self.path[..<(self.path.lastIndex(of: "/") ?? self.path.startIndex)]
    target.path = WebAddress.withoutDots(path.hasPrefix("/") ? String(path) : "\(folder)/\(path)")
    return WebAddress(target.text)
  }

  /// The address of a file below this one, which ends with a slash or gets one.
  func appending(_ name: String) -> WebAddress {
    var target = self
    target.path = (path.hasSuffix("/") ? path : path + "/") + WebAddress.encoded(name, keepsSlash: true)
    return target
  }

  /// A path without its parts `.` and `..`.
  private static func withoutDots(_ path: String) -> String {
    var parts: [Substring] = []
    let all = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
    for (place, part) in all.enumerated() {
      let isLast = place == all.count - 1
      if part == ".." { _ = parts.popLast() } else if part != "." { parts.append(part) }
      if isLast, part == "." || part == ".." { parts.append("") }
    }
    return "/" + parts.joined(separator: "/")
  }

  /// A text with everything percent-encoded but letters, digits and `-._~`.
  static func encoded(_ text: String, keepsSlash: Bool = false) -> String {
    var out = ""
    for byte in text.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E:
        out.unicodeScalars.append(Unicode.Scalar(byte))
      case 0x2F where keepsSlash: out += "/"
      default:
        let digits = String(byte, radix: 16, uppercase: true)
        out += "%" + (digits.count == 1 ? "0" : "") + digits
      }
    }
    return out
  }

  /// A text with its percent-encoding undone; nil where that gives no UTF-8.
  static func decoded(_ text: some StringProtocol) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}
