defmodule Emily.Artifact.MirrorTest do
  use Emily.Test.InstallCase, async: true
  doctest Emily.Artifact.LocalFile

  alias Emily.Artifact
  alias Emily.Artifact.{ChecksumError, HttpError, LocalFile, OfflineError, UnavailableError}
  alias Emily.Test.Certificates

  defp shelf(context, release) do
    folder = Path.join(context.dir, "a mirror")
    File.mkdir_p!(folder)
    for {name, bytes} <- release, do: File.write!(Path.join(folder, name), bytes)
    {folder, LocalFile.address(folder)}
  end

  describe "a folder" do
    test "is installed from, and verified as a server is", context do
      {folder, url} = shelf(context, context.release)
      assert {:ok, _manifest} = install(context, url: url)
      assert installed(context) == context.files
      assert HttpServer.requests(context.server) == []

      File.write!(Path.join(folder, context.artifact.asset), "other bytes")
      File.rm_rf!(context.cache)
      assert {:error, %ChecksumError{}} = install(context, url: url)
      assert installed(context) == context.files
    end

    test "without the file is an error that lists what there is", context do
      {_folder, url} = shelf(context, %{})
      assert {:error, %UnavailableError{} = error} = install(context, url: url)
      assert error.url == url <> Artifact.sidecar(context.artifact)
      assert Exception.message(error) =~ "a%20mirror"
    end

    test "that lacks the archive, or has a folder in its place, is an error", context do
      {folder, url} = shelf(context, Map.delete(context.release, context.artifact.asset))
      assert {:error, %UnavailableError{}} = install(context, url: url)
      File.mkdir!(Path.join(folder, context.artifact.asset))
      assert {:error, %HttpError{reason: reason}} = install(context, url: url)
      assert reason in [:eisdir, :einval]
      assert installed(context) == %{}
      assert leftovers(context) == []
    end

    test "is not where a server may redirect to", context do
      {_folder, url} = shelf(context, context.release)

      script(context, %{
        context.artifact.asset => {:redirect, url <> context.artifact.asset}
      })

      assert refused(context, Artifact.RedirectError).reason == :insecure
    end
  end

  test "a mirror that asks for a name and a password gets those of its address", context do
    certificates = Certificates.new()
    authority = Path.join(context.dir, "authority.pem")
    File.write!(authority, certificates.authority)
    server = HttpServer.start(context.release, %{}, tls: certificates.server)
    url = "https://me:a%20word@localhost:#{server.port}/"
    environment = %{"HEX_CACERTS_PATH" => authority}
    assert {:ok, _manifest} = install(context, url: url, environment: environment)

    for {_name, headers} <- HttpServer.requests(server),
        do: assert(headers["authorization"] == "Basic " <> Base.encode64("me:a word"))

    for text <- said(:info), do: refute(text =~ "word")
  end

  describe "a warm cache" do
    test "asks for the checksum alone, while that stays", context do
      assert {:ok, _manifest} = install(context)
      asked = length(HttpServer.requests(context.server))
      File.rm_rf!(context.priv)

      assert {:ok, _manifest} = install(context)
      assert installed(context) == context.files

      assert [{name, _headers}] = Enum.drop(HttpServer.requests(context.server), asked)
      assert name == Artifact.sidecar(context.artifact)
    end

    test "asks for the signature again when its own does not hold", context do
      assert {:ok, _manifest} = install(context)
      signature = Artifact.signature(context.artifact)
      File.write!(Path.join([context.cache, "v1", signature]), "damaged")
      assert {:ok, _manifest} = install(context)
      assert HttpServer.count(context.server, signature) == 2
      assert HttpServer.count(context.server, context.artifact.asset) == 1
    end
  end

  describe "offline" do
    defp offline(context, options \\ []),
      do: install(context, [environment: %{"EMILY_OFFLINE" => "1"}] ++ options)

    test "a verified cache does, and nobody is asked", context do
      assert {:ok, _manifest} = install(context)
      asked = HttpServer.requests(context.server)
      File.rm_rf!(context.priv)

      assert {:ok, _manifest} = offline(context)
      assert installed(context) == context.files
      assert said(:warning) == []
      assert HttpServer.requests(context.server) == asked
    end

    test "an empty cache is an error that says how to fill it", context do
      assert {:error, %OfflineError{} = error} = offline(context)

      assert Exception.message(error) == """
             could not install #{context.artifact.asset}: Emily is set to be offline, and the cache does not have it

               path     #{context.cache}/v1
               missing  #{Artifact.sidecar(context.artifact)}

             Run `mix emily.fetch --into DIR` where there is a network, bring DIR here, and run `EMILY_RELEASE_URL=file:///…/DIR mix compile`; or unset EMILY_OFFLINE.\
             """

      assert HttpServer.requests(context.server) == []
    end

    test "a damaged cache is refused, file by file, and heals", context do
      assert {:ok, _manifest} = install(context)
      File.rm_rf!(context.priv)
      File.mkdir_p!(context.priv)

      for {name, missing} <- [
            {context.artifact.asset,
             "#{context.artifact.asset} as published: its bytes are others"},
            {Artifact.sidecar(context.artifact), "could not trust"},
            {Artifact.signature(context.artifact), "could not trust"}
          ] do
        path = Path.join([context.cache, "v1", name])
        File.write!(path, "damaged")
        assert {:error, %OfflineError{} = error} = offline(context)
        assert error.missing =~ missing
        File.rm!(path)
        assert {:error, %OfflineError{missing: ^name}} = offline(context)
        assert installed(context) == %{}
        File.write!(path, context.release[name])
      end

      assert {:ok, _manifest} = offline(context)
      assert installed(context) == context.files
    end

    test "a folder is no network", context do
      {_folder, url} = shelf(context, context.release)
      assert {:ok, _manifest} = offline(context, url: url)
      assert installed(context) == context.files
    end
  end
end
