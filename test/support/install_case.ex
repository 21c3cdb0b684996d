defmodule Emily.Test.InstallCase do
  @moduledoc """
  A throwaway release on a loopback server, an empty cache and an empty `priv/`.

  `install/2` runs an install whose events come to the test as messages, whose delays are messages
  too, and whose machine is a made-up one.
  """

  use ExUnit.CaseTemplate

  alias Emily.Artifact.{Install, Keyring, Manifest, Retry}
  alias Emily.Settings
  alias Emily.Test.{HttpServer, ReleaseFactory}

  using do
    quote do
      import Emily.Test.InstallCase
      alias Emily.Test.{HttpServer, ReleaseFactory}
    end
  end

  setup do
    dir = temporary_folder()
    key = ReleaseFactory.key()
    artifact = ReleaseFactory.artifact()
    files = ReleaseFactory.files()
    release = ReleaseFactory.publish(artifact, ReleaseFactory.archive(artifact, files), key)
    priv = Path.join(dir, "priv")
    File.mkdir_p!(priv)

    %{
      dir: dir,
      key: key,
      artifact: artifact,
      files: files,
      release: release,
      server: HttpServer.start(release),
      cache: Path.join(dir, "cache"),
      priv: priv
    }
  end

  @doc "An empty folder outside the project, removed after the test."
  def temporary_folder do
    dir =
      Path.join(System.tmp_dir!(), "emily-test-#{Base.encode16(:crypto.strong_rand_bytes(6))}")

    File.mkdir_p!(dir)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(dir) end)
    dir
  end

  @doc "Runs an install in a test's context; the options replace its parts."
  def install(context, options \\ []) do
    test = self()

    environment =
      Map.merge(%{"EMILY_CACHE" => context.cache}, Map.new(options[:environment] || %{}))

    install = %Install{
      artifact: context.artifact,
      settings: Settings.load(environment, release_url: options[:url] || context.server.url),
      priv: context.priv,
      keyring: Keyword.get(options, :keyring, Keyring.of(context.key.public)),
      notify: Keyword.get(options, :notify, &send(test, &1)),
      host: fn -> options[:host] || ReleaseFactory.host() end,
      retry: %Retry{sleep: &send(test, {:slept, &1})},
      client: Keyword.get(options, :client, [])
    }

    Install.run(install)
  end

  @doc "Publishes an archive in place of the one that the server has."
  def republish(context, archive, scripts \\ %{}) do
    HttpServer.serve(
      context.server,
      ReleaseFactory.publish(context.artifact, archive, context.key),
      scripts
    )
  end

  @doc "Publishes the test's own release again, and lets the server behave as scripted."
  def script(context, scripts), do: HttpServer.serve(context.server, context.release, scripts)

  @doc "What `priv/` holds: the files by name, without the manifest."
  def installed(context) do
    for name <- File.ls!(context.priv), name != Manifest.name(), into: %{} do
      {name, File.read!(Path.join(context.priv, name))}
    end
  end

  @doc "Whether the cache and `priv/` have nothing that is not at its final, verified place."
  def leftovers(context) do
    tmp = Path.wildcard(Path.join(context.cache, "v1/tmp/*"))
    staging = Path.wildcard(Path.join(context.priv, ".*"), match_dot: true)
    tmp ++ for path <- staging, Path.basename(path) not in [".", ".."], do: path
  end

  @doc "The sentences of one kind that the install said so far."
  def said(kind) when kind in [:info, :warning] do
    receive do
      {^kind, text} -> [text | said(kind)]
    after
      0 -> []
    end
  end

  @doc "The delays that were waited for so far, in milliseconds."
  def delays do
    receive do
      {:slept, ms} -> [ms | delays()]
    after
      0 -> []
    end
  end

  @doc """
  Asserts that an install is refused with an error of a type, that nothing was installed and nothing
  left lying about, and that the next install from a healthy server heals. Returns the error.
  """
  def refused(context, type, options \\ []) do
    before = installed(context)
    {:error, error} = install(context, options)

    assert error.__struct__ == type,
           "expected a #{inspect(type)}, got: #{Exception.message(error)}"

    assert installed(context) == before
    assert leftovers(context) == []

    HttpServer.serve(context.server, context.release)
    assert {:ok, _manifest} = install(context)
    assert installed(context) == context.files
    error
  end
end
