defmodule Emily.Artifact.DownloadTest do
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact
  alias Emily.Artifact.{CertificateError, Download, HttpError, RedirectError, UnavailableError}
  alias Emily.Test.{Certificates, TunnelProxy}

  defp asset(context), do: context.artifact.asset
  defp size(context), do: byte_size(context.release[asset(context)])

  defp ranges(context) do
    for {name, headers} <- HttpServer.requests(context.server),
        name == asset(context),
        do: headers["range"]
  end

  describe "a passing failure" do
    test "is repeated with a doubling delay, and said", context do
      script(context, %{asset(context) => [{:status, 500}, {:status, 502}, {:status, 429}]})
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
      assert delays() == [1_000, 2_000, 4_000]
      url = context.server.url <> asset(context)

      assert said(:info) == [
               "Downloading #{url}",
               "#{url}: the server answered with status 500; trying again in 1.0 s, 3 attempts left",
               "#{url}: the server answered with status 502; trying again in 2.0 s, 2 attempts left",
               "#{url}: the server answered with status 429; trying again in 4.0 s, 1 attempt left"
             ]
    end

    test "is given up after four attempts", context do
      script(context, %{asset(context) => {:status, 500}})
      error = refused(context, HttpError)

      assert Exception.message(error) == """
             could not download a file of Emily's release: the server answered with status 500

               url       #{context.server.url}#{asset(context)}
               attempts  4

             Check the network, HTTPS_PROXY and EMILY_RELEASE_URL, and run `mix compile`.\
             """
    end

    test "waits as long as the server asks, within reason", context do
      script(context, %{
        asset(context) => [
          {:status, 429, [{"retry-after", "7"}]},
          {:status, 429, [{"retry-after", "86400"}]},
          {:status, 429, [{"retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"}]}
        ]
      })

      assert {:ok, _manifest} = install(context)
      assert delays() == [7_000, 60_000, 4_000]
    end

    test "of the checksum's server is repeated too", context do
      script(context, %{Artifact.sidecar(context.artifact) => [{:status, 408}, {:reset, 10}]})
      assert {:ok, _manifest} = install(context)
      assert delays() == [1_000, 2_000]
    end

    test "is a server that says nothing", context do
      script(context, %{asset(context) => [{:silent}]})
      assert {:ok, _manifest} = install(context, client: [idle_ms: 2_000])
      assert [_downloading, again | _busy_machine] = said(:info)
      assert again =~ "the server did not answer in time; trying again in 1.0 s"
    end

    test "is not a refusal", context do
      script(context, %{asset(context) => {:status, 403}})
      assert refused(context, HttpError).reason == {:status, 403}
      assert delays() == []
    end
  end

  describe "a connection that breaks" do
    # Larger than what a client may lose because it came in one packet with the headers.
    setup context do
      files = Map.put(context.files, "libmlx.so", :crypto.strong_rand_bytes(3_000_000))
      archive = ReleaseFactory.archive(context.artifact, files)
      release = ReleaseFactory.publish(context.artifact, archive, context.key)
      HttpServer.serve(context.server, release)
      %{files: files, release: release}
    end

    test "is resumed where it broke, by reset or by close", context do
      script(context, %{asset(context) => [{:reset, 0}, {:cut, 700_000}, {:cut, 300_000}]})
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
      assert [nil, nil, "bytes=700000-", "bytes=1000000-"] = ranges(context)
      assert delays() == [1_000, 2_000, 4_000]
    end

    test "by a reset in the middle is resumed from there", context do
      half = div(size(context), 2)
      test = self()

      # What a reset overtakes is lost, so it waits for the client to have read everything.
      reset = fn ->
        send(test, {:sent, self()})

        receive do
          :read -> :ok
        end
      end

      read = fn
        {:progress, ^half, _total} -> assert_receive({:sent, server}) && send(server, :read)
        _other -> :ok
      end

      script(context, %{asset(context) => [{:reset, half, reset}]})
      assert {:ok, _manifest} = install(context, notify: read)
      assert installed(context) == context.files
      assert ranges(context) == [nil, "bytes=#{half}-"]
      assert delays() == [1_000]
    end

    test "in the middle of a large file gives the attempts back", context do
      files = Map.put(context.files, "libmlx.so", :crypto.strong_rand_bytes(8_000_000))
      archive = ReleaseFactory.archive(context.artifact, files)
      piece = {:cut, 1_500_000}
      republish(context, archive, %{asset(context) => List.duplicate(piece, 5)})
      assert {:ok, _manifest} = install(context)
      assert installed(context) == files
      assert delays() == [1_000, 1_000, 1_000, 1_000, 1_000]
      assert List.last(ranges(context)) == "bytes=7500000-"
    end

    test "is started anew by a server that knows no ranges", context do
      script(context, %{asset(context) => [{:cut, 700_000}, {:whole}]})
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
      assert ranges(context) == [nil, "bytes=700000-"]
    end

    test "is started anew when the range is refused", context do
      script(context, %{asset(context) => [{:cut, 700_000}, {:status, 416}]})
      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
      assert ranges(context) == [nil, "bytes=700000-", nil]
    end

    test "is not resumed from elsewhere than asked", context do
      script(context, %{asset(context) => [{:cut, 700_000}, {:shifted, 5}]})
      error = refused(context, HttpError)
      assert {error.expected, error.actual} == {"bytes from 700000", "bytes from 700005"}
    end

    test "asks for the rest of the same file only", context do
      script(context, %{asset(context) => [{:cut, 700_000}]})
      assert {:ok, _manifest} = install(context)

      [{_name, first}, {_again, second}] =
        for {name, _} = asked <- HttpServer.requests(context.server),
            name == asset(context),
            do: asked

      assert first["if-range"] == nil
      assert second["if-range"] =~ ~r/\A"\d+"\z/
    end

    test "time after time is given up", context do
      script(context, %{asset(context) => {:cut, 10}})

      assert Exception.message(refused(context, HttpError)) == """
             could not download a file of Emily's release: the connection was closed in the middle

               url       #{context.server.url}#{asset(context)}
               attempts  4

             Check the network, HTTPS_PROXY and EMILY_RELEASE_URL, and run `mix compile`.\
             """
    end
  end

  describe "a file that is not there" do
    test "is an error that lists what is", context do
      script(context, %{Artifact.sidecar(context.artifact) => {:status, 404}})
      error = refused(context, UnavailableError)

      assert Exception.message(error) == """
             could not download Emily's native library: it is not published at this address

               url       #{context.server.url}#{Artifact.sidecar(context.artifact)}
               variant   cpu
               target    linux-x86_64
               existing  linux-arm64: cpu
                         linux-x86_64: cpu, cuda12, cuda13
                         macos-arm64: aot, jit

             Choose one with `config :emily, variant: …` or EMILY_VARIANT, or build it: `cargo xtask nif` in a checkout of https://github.com/ausimian/emily.\
             """
    end

    test "may be the archive alone", context do
      script(context, %{asset(context) => {:status, 404}})
      assert refused(context, UnavailableError).url == context.server.url <> asset(context)
    end
  end

  describe "redirects" do
    test "are followed, relative ones too", context do
      {name, release} = {asset(context), context.release}
      other = HttpServer.start(%{"elsewhere/#{name}" => release[name]})

      script(context, %{
        name => [{:redirect, "/hop/#{name}"}],
        "hop/#{name}" => {:redirect, "#{other.url}elsewhere/#{name}"}
      })

      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files
      assert HttpServer.count(other, "elsewhere/#{name}") == 1
    end

    test "in a circle are an error that shows it", context do
      name = asset(context)
      script(context, %{name => {:redirect, "/b"}, "b" => {:redirect, "/" <> name}})
      error = refused(context, RedirectError)

      assert Exception.message(error) == """
             could not download a file of Emily's release: the server redirects in a circle

               url        #{context.server.url}#{name}
               redirects  #{context.server.url}b
                          #{context.server.url}#{name}

             Check EMILY_RELEASE_URL, open the address in a browser, and run `mix compile`.\
             """
    end

    test "without an end are an error", context do
      hops = for n <- 1..20, into: %{}, do: {"hop#{n}", {:redirect, "/hop#{n + 1}"}}
      script(context, Map.put(hops, asset(context), {:redirect, "/hop1"}))
      error = refused(context, RedirectError)
      assert {error.reason, length(error.chain)} == {:too_many, 10}
    end

    test "to nowhere are an error", context do
      script(context, %{asset(context) => {:status, 302}})
      assert refused(context, RedirectError).reason == :no_location
    end
  end

  describe "https" do
    setup context do
      certificates = Certificates.new()
      authority = Path.join(context.dir, "authority.pem")
      File.write!(authority, certificates.authority)
      server = HttpServer.start(context.release, %{}, tls: certificates.server)
      %{https: server, trusting: %{"HEX_CACERTS_PATH" => authority}}
    end

    test "with a trusted authority installs", context do
      assert {:ok, _manifest} =
               install(context, url: context.https.url, environment: context.trusting)

      assert installed(context) == context.files
    end

    test "resumes too", context do
      HttpServer.serve(context.https, context.release, %{asset(context) => [{:cut, 200}]})

      assert {:ok, _manifest} =
               install(context, url: context.https.url, environment: context.trusting)

      assert HttpServer.count(context.https, asset(context)) == 2
    end

    test "with an unknown authority is refused", context do
      error = refused(context, CertificateError, url: context.https.url)
      message = Exception.message(error)

      assert message =~ """
             could not trust the server of Emily's release

               url       #{context.https.url}#{Artifact.sidecar(context.artifact)}
               expected  a certificate by a known authority, for this host
             """

      assert error.actual =~ "Unknown CA"

      assert message =~
               "\n\nIf a proxy of your own signs for it, set HEX_CACERTS_PATH to its authority's PEM file and run `mix compile`."
    end

    test "for another host is refused", context do
      url = String.replace(context.https.url, "localhost", "127.0.0.1")
      error = refused(context, CertificateError, url: url, environment: context.trusting)
      assert error.actual =~ ~r/handshake|hostname/i
    end

    test "with an authority's file that is not there is refused", context do
      missing = Path.join(context.dir, "missing.pem")
      environment = %{"HEX_CACERTS_PATH" => missing}
      error = refused(context, CertificateError, url: context.https.url, environment: environment)
      assert {error.path, error.actual} == {missing, "HEX_CACERTS_PATH is no file"}
    end

    test "does not follow to http", context do
      location = context.server.url <> asset(context)
      HttpServer.serve(context.https, context.release, %{asset(context) => {:redirect, location}})

      error =
        refused(context, RedirectError, url: context.https.url, environment: context.trusting)

      assert Exception.message(error) =~
               "could not download a file of Emily's release: the server redirects to an address that is not https"

      assert List.last(error.chain) == location
    end

    test "is not where a verified cache stands in for a server without a certificate", context do
      assert {:ok, _manifest} = install(context)
      assert {:error, %CertificateError{}} = install(context, url: context.https.url)
    end
  end

  test "an address that is none is refused, even with a verified cache", context do
    assert {:ok, _manifest} = install(context)

    for {url, cause} <- [
          {"releases/", "this is no address to download from"},
          {"/mnt/releases/", "this is no address to download from"},
          {"ftp://release.example/", "this is no address to download from"},
          {"https:///releases/", "this is no address to download from"},
          {"file://releases/", "this is no address to download from"},
          {"http://release.example/", "http is for addresses of this machine alone"},
          {"http://0.0.0.0:81/", "http is for addresses of this machine alone"}
        ] do
      assert {:error, %HttpError{} = error} = install(context, url: url)

      assert Exception.message(error) == """
             could not download a file of Emily's release: #{cause}

               url       #{url}#{Artifact.sidecar(context.artifact)}
               expected  https://…, http:// with localhost, or file:///…
               attempts  1

             Check the network, HTTPS_PROXY and EMILY_RELEASE_URL, and run `mix compile`.\
             """
    end
  end

  describe "proxies" do
    test "are used for https by a tunnel, with their password", context do
      certificates = Certificates.new()
      authority = Path.join(context.dir, "authority.pem")
      File.write!(authority, certificates.authority)
      server = HttpServer.start(context.release, %{}, tls: certificates.server)
      proxy = TunnelProxy.start()

      environment = %{
        "HTTPS_PROXY" => "http://me:word@localhost:#{proxy.port}",
        "HEX_CACERTS_PATH" => authority
      }

      url = "https://release.example:#{server.port}/"
      assert {:ok, _manifest} = install(context, url: url, environment: environment)
      assert [{target, headers} | _rest] = TunnelProxy.requests(proxy)
      assert target == "release.example:#{server.port}"
      assert headers["proxy-authorization"] == "Basic " <> Base.encode64("me:word")
      assert length(TunnelProxy.requests(proxy)) == 3

      asked = HttpServer.requests(server)
      assert {:ok, _manifest} = install(context, url: server.url, environment: environment)
      assert length(TunnelProxy.requests(proxy)) == 3
      assert length(HttpServer.requests(server)) == length(asked) + 1
    end

    test "that ask for a password and get none, or a wrong one, are an error", context do
      certificates = Certificates.new()
      proxy = TunnelProxy.start(password: "me:a word")
      server = HttpServer.start(context.release, %{}, tls: certificates.server)
      authority = Path.join(context.dir, "authority.pem")
      File.write!(authority, certificates.authority)
      url = "https://release.example:#{server.port}/"

      for {credentials, works?} <- [{"", false}, {"me:word@", false}, {"me:a%20word@", true}] do
        environment = %{
          "HTTPS_PROXY" => "http://#{credentials}localhost:#{proxy.port}",
          "HEX_CACERTS_PATH" => authority
        }

        result = install(context, url: url, environment: environment)

        if works? do
          assert {:ok, _manifest} = result
        else
          assert {:error, %HttpError{reason: {:proxy, 407}} = error} = result
          assert Exception.message(error) =~ ": the proxy answered with status 407\n"
          assert installed(context) == %{}
        end
      end
    end

    test "are not used for loopback addresses", context do
      proxy = HttpServer.start(context.release)

      environment = %{
        "HTTP_PROXY" => "http://localhost:#{proxy.port}",
        "HTTPS_PROXY" => "http://localhost:#{proxy.port}"
      }

      port = context.server.port

      for host <- ["localhost", "127.0.0.1"] do
        url = "http://#{host}:#{port}/"
        assert {:ok, _manifest} = install(context, url: url, environment: environment)
      end

      # Where nobody listens there is no answer, least of all a proxy's.
      File.rm_rf!(context.cache)

      for host <- ["127.0.0.2", "[::1]"] do
        options = [url: "http://#{host}:#{port}/", client: [connect_ms: 1_000]]
        assert {:error, %HttpError{}} = install(context, [environment: environment] ++ options)
      end

      assert HttpServer.requests(proxy) == []
    end

    test "of a form that says no host are refused", context do
      assert_raise ArgumentError,
                   ~s(expected HTTPS_PROXY to be the address of a proxy, got: "http://"),
                   fn -> install(context, environment: %{"HTTPS_PROXY" => "http://"}) end
    end
  end

  describe "limits" do
    test "a file that promises too much is refused before it is read", context do
      max = size(context) - 1
      assert limited(context, :ok, max) == too_large(context, max, "#{max + 1} bytes")
    end

    test "a file that promises nothing is cut off", context do
      assert limited(context, {:endless}, 100_000) == too_large(context, 100_000, "more")
    end

    defp too_large(context, max, actual) do
      """
      could not download a file of Emily's release: the answer is too large

        url       #{context.server.url}#{asset(context)}
        expected  at most #{max} bytes
        actual    #{actual}
        attempts  1

      Check the network, HTTPS_PROXY and EMILY_RELEASE_URL, and run `mix compile`.\
      """
    end

    defp limited(context, line, max) do
      script(context, %{asset(context) => line})
      path = Path.join(context.dir, "download")

      Artifact.Client.with_client(Emily.Settings.load(%{}, []), fn client ->
        url = context.server.url <> asset(context)

        assert {:error, %HttpError{reason: :too_large} = error} =
                 Download.to_file(%Download{client: client}, url, path, max)

        assert File.stat!(path).size <= max
        Exception.message(error)
      end)
    end
  end
end
