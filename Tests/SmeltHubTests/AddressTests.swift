// Addresses: what they name, and what is none.

import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltHub

@Suite struct AddressTests {
  private let hub = "https://huggingface.co"

  @Test func partsOfAnAddress() throws {
    let address = try #require(WebAddress("HTTPS://Example.COM:8443/a%20b/c?x=1#here"))
    #expect(address.text == "https://example.com:8443/a%20b/c?x=1")
    #expect(address.shown == "https://example.com:8443/a%20b/c?…")
    #expect(WebAddress("http://[::1]:80/")?.text == "http://[::1]/")
    #expect(WebAddress("https://host")?.path == "/")
    for bad in [
      "ftp://h/x", "https://", "https://user:secret@h/", "https://h:0/", "https://h:99999/", "https://a b/",
      "http:/h", "https://h\\@x/",
    ] {
      #expect(WebAddress(bad) == nil, "\(bad)")
    }
  }

  @Test func loopback() {
    for good in [
      "http://127.0.0.1/", "http://127.9.8.7:80/", "http://localhost/", "http://[::1]/",
      "http://a.localhost/",
    ] {
      #expect(WebAddress(good)?.isLoopback == true, "\(good)")
    }
    for bad in [
      "http://127.0.0.1.example.com/", "http://localhost.example.com/", "http://128.0.0.1/",
      "http://1127.0.0.1/",
    ] {
      #expect(WebAddress(bad)?.isLoopback == false, "\(bad)")
    }
  }

  @Test func redirectsAreResolved() throws {
    let from = try #require(WebAddress("https://h.example/a/b/c?q=1"))
    let cases = [
      "https://o.example/x": "https://o.example/x", "//o.example/x": "https://o.example/x",
      "/x?y=2": "https://h.example/x?y=2",
      "d": "https://h.example/a/b/d", "../d": "https://h.example/a/d", "../../../../d": "https://h.example/d",
      "?z=1": "https://h.example/a/b/c?z=1", "/x#part": "https://h.example/x", "./": "https://h.example/a/b/",
    ]
    for (location, expected) in cases { #expect(from.following(location)?.text == expected, "\(location)") }
    #expect(from.following("ftp://o.example/x") == nil)
    #expect(from.following("https://u:p@o.example/x") == nil)
  }

  @Test func sameOriginIsSchemeHostAndPort() throws {
    let one = try #require(WebAddress("https://h.example/a"))
    for other in ["http://h.example/a", "https://h.example:444/a", "https://x.h.example/a"] {
      #expect(!one.isSameOrigin(try #require(WebAddress(other))), "\(other)")
    }
    #expect(one.isSameOrigin(try #require(WebAddress("https://H.example:443/b"))))
  }

  @Test func namesOfTheHub() throws {
    func name(_ text: String) throws -> String {
      switch try ModelAddress(text, endpoint: hub) {
      case .hub(let name, let path): "\(name.id) \(name.revision) \(path)"
      case .web(let address): address.text
      }
    }
    #expect(try name("hf://org/name") == "org/name main ")
    #expect(try name("hf://org/name@v1.0/") == "org/name v1.0 ")
    #expect(try name("hf://org/name/sub/x.gguf") == "org/name main sub/x.gguf")
    #expect(try name("hf://org/name@refs/pr/3/x.gguf") == "org/name refs/pr/3 x.gguf")
    #expect(try name("hf://org/name@a%2Fb") == "org/name a/b ")
    #expect(try name("https://huggingface.co/org/name") == "org/name main ")
    #expect(try name("https://huggingface.co/org/name/tree/dev/sub") == "org/name dev sub")
    #expect(try name("https://huggingface.co/org/name/resolve/main/x.gguf") == "org/name main x.gguf")
    #expect(try name("https://other.example/org/name") == "https://other.example/org/name")
    for bad in [
      "hf://name", "hf://org/../x", "hf://org/name@", "hf://org/name/../x", "hf://org/na me",
      "hf://org/name@a..b", "hf://o--x/name", "hf://.org/name",
    ] {
      #expect(throws: RequestError.self, "\(bad)") { try ModelAddress(bad, endpoint: hub) }
    }
  }

  @Test func namesOfParts() {
    #expect(
      WebFolder.siblings("m-q8-00002-of-00003.gguf") == [
        "m-q8-00001-of-00003.gguf", "m-q8-00002-of-00003.gguf", "m-q8-00003-of-00003.gguf",
      ])
    for one in ["m.gguf", "m-2-of-3.gguf", "m-00002-of-00000.gguf", "00001-of-00002.gguf"] {
      #expect(WebFolder.siblings(one) == [one])
    }
  }

  @Test(arguments: ["../x", "a/../x", "/x", "a//b", "a/", "", ".", "a\\b", "a\u{0}b", "a\u{1B}[2J"])
  func listedNamesThatLeave(path: String) { #expect(RemotePath.problem(path) != nil) }

  @Test func environment() {
    func settings(_ variables: [String: String]) -> HubSettings { HubSettings { variables[$0] } }
    let home = TemporaryFolder()
    let plain = settings(["HOME": home.path])
    #expect(plain.endpoint == hub && plain.token == nil)
    #expect(plain.cache == home.file(".cache/huggingface/hub"))
    #expect(settings(["XDG_CACHE_HOME": "/x"]).cache == "/x/huggingface/hub")
    #expect(settings(["HF_HOME": "~/h", "HOME": "/u"]).cache == "/u/h/hub")
    #expect(settings(["HF_HOME": "/h", "HF_HUB_CACHE": "/c"]).cache == "/c")
    #expect(settings(["HF_ENDPOINT": "https://mirror.example/"]).endpoint == "https://mirror.example")
    #expect(settings(["HF_HUB_OFFLINE": "1"]).isOffline && !settings(["HF_HUB_OFFLINE": "0"]).isOffline)
    #expect(settings(["HF_HUB_DOWNLOAD_TIMEOUT": "3"]).transferSeconds == 3)
    #expect(settings(["HF_TOKEN": " a\n"]).token == "a")
  }

  @Test func tokenFiles() throws {
    let folder = TemporaryFolder()
    try writeFile(folder.file("token"), Array("from-file\n".utf8), overwrite: true)
    try writeFile(folder.file("other"), Array("other".utf8), overwrite: true)
    func token(_ variables: [String: String]) -> String? {
      HubSettings { variables.merging(["HF_HOME": folder.path]) { a, _ in a }[$0] }.token
    }
    #expect(token([:]) == "from-file")
    #expect(token(["HF_TOKEN": "said"]) == "said")
    #expect(token(["HF_TOKEN_PATH": folder.file("other")]) == "other")
    #expect(token(["HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"]) == nil)
  }
}
