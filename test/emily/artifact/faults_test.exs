defmodule Emily.Artifact.FaultsTest do
  # Each row of `Emily.Test.Faults`, put before both installers: nothing wrong is ever installed, what
  # is wrong is said in three parts, and the next install from a healthy server heals.
  use Emily.Test.InstallCase, async: true

  alias Emily.Artifact
  alias Emily.Test.{Certificates, Faults, TcpServer, Xtask}

  # What Elixir says, the headline, the facts, and what to do next.
  @elixir ~r/\Acould not [^\n]+\n\n(?:  [a-z]+ +[^\n]+\n(?: {4,}[^\n]+\n)*)+\n[^\n]+\z/
  @rust ~r/\Aerror: [^\n]+\n\n(?:  [a-z0-9A-Z_ ]+: +[^\n]+\n(?: {4,}[^\n]+\n)*)+\nRun next: [^\n]+\n\z/
  # What is not served in time is not served at all; nobody waits for long where nothing will come.
  @patience_ms 30_000
  @silence_ms 300

  setup_all do
    %{installer: unless(Xtask.problem(), do: Xtask.example("installer"))}
  end

  setup context do
    library = :rand.bytes_s(Faults.library_bytes(), :rand.seed_s(:exsss, 1)) |> elem(0)
    files = Map.put(context.files, "libmlx.so", library)
    release = publish(context, files)
    HttpServer.serve(context.server, release)
    keys = Path.join(context.dir, "keys.json")
    File.write!(keys, context.key.text)
    %{files: files, release: release, keys: keys}
  end

  defp publish(context, files) do
    ReleaseFactory.publish(
      context.artifact,
      ReleaseFactory.archive(context.artifact, files),
      context.key
    )
  end

  for {{name, place, _fault, _elixir, _rust}, row} <- Enum.with_index(Faults.all()) do
    test "#{place}: #{name}", context do
      {_name, place, fault, elixir, rust} = Enum.at(Faults.all(), unquote(row))
      context = Map.merge(context, %{fault: fault, patience: patience(fault)})
      elixir(context, arrange(place, fault, context), elixir)
      if context.installer && rust, do: rust(context, arrange(place, fault, context), rust)
    end
  end

  defp patience(:silence), do: @silence_ms
  defp patience({:raw, _bytes, :silence}), do: @silence_ms
  defp patience(_fault), do: @patience_ms

  ## Before an install: the server as it should not be, and how it is asked

  defp arrange(place, line, context) when place in [:sidecar, :signature, :archive] do
    name =
      case place do
        :sidecar -> Artifact.sidecar(context.artifact)
        :signature -> Artifact.signature(context.artifact)
        :archive -> context.artifact.asset
      end

    files = Map.put(context.release, "other", "another file")
    HttpServer.serve(context.server, files, %{name => line})
    {context.server.url, %{}}
  end

  defp arrange(:served, change, context) do
    HttpServer.serve(context.server, Map.merge(context.release, change.(context)))
    {context.server.url, %{}}
  end

  defp arrange(:url, url, _context), do: {url, %{}}
  defp arrange(:tcp, what, _context), do: {"http://localhost:#{TcpServer.start(what)}/", %{}}
  defp arrange(:tls, what, _context), do: {"https://localhost:#{TcpServer.start(what)}/", %{}}

  defp arrange(:certificate, which, context) do
    made = Certificates.new(if is_list(which), do: which, else: [])
    authority = Path.join(context.dir, "authority.pem")

    File.write!(
      authority,
      if(which == :unknown, do: Certificates.new().authority, else: made.authority)
    )

    options = if which == :self_signed, do: Certificates.self_signed(), else: made.server
    server = HttpServer.start(context.release, %{}, tls: options)
    {server.url, %{"HEX_CACERTS_PATH" => authority}}
  end

  ## The two installers

  defp elixir(context, {url, environment}, expected) do
    options = [
      url: url,
      environment: environment,
      client: [idle_ms: context.patience, connect_ms: context.patience] ++ clock(context.fault),
      notify: &notice(&1, self())
    ]

    case install(context, options) do
      {:ok, _manifest} ->
        assert expected == :heals, "expected #{inspect(expected)}, got: an install"

      {:error, error} ->
        assert error.__struct__ in List.wrap(expected), Exception.message(error)
        assert Exception.message(error) =~ @elixir
        assert installed(context) == %{}
    end

    assert leftovers(context) == []
    HttpServer.serve(context.server, context.release)
    assert {:ok, _manifest} = install(context)
    assert installed(context) == context.files
  end

  # From the archive on, each look at this clock is as late as a client waits.
  defp clock({:trickle}) do
    looks = :counters.new(1, [])
    test = self()

    clock = fn ->
      if Process.get({test, :downloading}), do: :counters.add(looks, 1, @patience_ms)
      :counters.get(looks, 1)
    end

    [clock: clock]
  end

  defp clock(_fault), do: []

  defp notice({:info, "Downloading" <> _}, test), do: Process.put({test, :downloading}, true)
  defp notice(_event, _test), do: :ok

  defp rust(context, {url, environment}, expected) do
    into = Path.join(context.dir, "by-rust")

    case run(context, url, environment, into, context.patience) do
      {_output, 0} ->
        assert expected == :heals, "expected #{expected}, got: an install"

      {output, 1} ->
        assert expected == :refused, output
        [_attempts, error] = String.split(output, ~r/^(?=error: )/m, parts: 2)
        assert error =~ @rust
        assert files_of(into) == %{}
    end

    HttpServer.serve(context.server, context.release)
    assert {_output, 0} = run(context, context.server.url, %{}, into, @patience_ms)
    assert files_of(into) == context.files
    assert Path.wildcard(Path.join(context.dir, "rust-cache/v1/tmp/*")) == []
  end

  defp run(context, url, environment, into, patience) do
    cache = Path.join(context.dir, "rust-cache")

    System.cmd(context.installer, [context.keys, url, cache, into, "#{patience}"],
      env:
        Map.merge(
          %{"HEX_CACERTS_PATH" => nil, "HTTPS_PROXY" => nil, "https_proxy" => nil},
          environment
        ),
      stderr_to_stdout: true
    )
  end

  defp files_of(folder) do
    with {:ok, names} <- File.ls(folder) do
      for name <- names,
          name != "manifest.json",
          into: %{},
          do: {name, File.read!(Path.join(folder, name))}
    else
      {:error, :enoent} -> %{}
    end
  end
end
