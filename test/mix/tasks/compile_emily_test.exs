defmodule Mix.Tasks.Compile.EmilyTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO

  describe "in this checkout" do
    test "nothing is downloaded, and cleaning leaves priv/ alone" do
      priv = Path.join(Mix.Project.app_path(), "priv")
      before = File.ls(priv)

      {result, _warning} = with_io(:stderr, fn -> Mix.Tasks.Compile.Emily.run([]) end)
      assert {:noop, diagnostics} = result

      built? =
        match?({:ok, _}, before) and
          Enum.any?(elem(before, 1), &String.starts_with?(&1, "libemily."))

      assert Enum.map(diagnostics, & &1.severity) == if(built?, do: [], else: [:warning])

      Mix.Tasks.Compile.Emily.clean()
      assert File.ls(priv) == before
    end
  end
end

defmodule Mix.Tasks.Compile.EmilyConsumerTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact.Host
  alias Emily.Test.{Consumer, HttpServer, ReleaseFactory}

  # The releases made here hold what a Linux one does, and are for the machine of this test run.
  @skip if(to_string(Host.target()) =~ "linux", do: nil, else: "needs Linux")

  @moduletag skip: @skip
  @moduletag timeout: 300_000

  setup_all do
    dir = Path.join(System.tmp_dir!(), "emily-consumer-#{System.pid()}")
    on_exit(fn -> File.rm_rf!(dir) end)
    artifact = ReleaseFactory.artifact(nil, Host.target())
    key = ReleaseFactory.key()
    Consumer.make(dir)

    # Compiled once, and refused for want of a key; the tests work on copies.
    {output, status} = Consumer.mix(dir, ["compile"], %{"EMILY_CACHE" => Path.join(dir, "cache")})
    Consumer.give_key(dir, key.text)
    %{template: dir, artifact: artifact, key: key, first: {output, status}}
  end

  setup context do
    dir = Emily.Test.InstallCase.temporary_folder()
    copy(context.template, dir)
    files = ReleaseFactory.files()

    release =
      ReleaseFactory.publish(
        context.artifact,
        ReleaseFactory.archive(context.artifact, files),
        context.key
      )

    server = HttpServer.start(release)
    %{dir: dir, files: files, server: server, environment: environment(server, dir)}
  end

  defp copy(from, to) do
    for name <- ["package", "consumer"] do
      {_output, 0} = System.cmd("cp", ["-a", Path.join(from, name), to])
    end
  end

  defp environment(server, dir) do
    %{"EMILY_CACHE" => Path.join(dir, "cache"), "EMILY_RELEASE_URL" => server.url}
  end

  defp compile(context), do: Consumer.mix(context.dir, ["compile"], context.environment)

  defp republish(context, files) do
    archive = ReleaseFactory.archive(context.artifact, files)

    HttpServer.serve(
      context.server,
      ReleaseFactory.publish(context.artifact, archive, context.key)
    )
  end

  test "a package without a release key is refused", context do
    {output, status} = context.first
    assert status != 0

    assert output =~ """
           error: could not install Emily's native library: this copy of Emily carries no release key

             path  release/keys.json

           Depend on a published version of Emily, or build it: `cargo xtask nif` in a checkout of https://github.com/ausimian/emily.
           """
  end

  test "a key that comes later is compiled in, the library installed, and then left alone",
       context do
    {output, 0} = compile(context)
    assert output =~ "Downloading #{context.server.url}#{context.artifact.asset}\n"

    assert output =~
             "Installed Emily's native library #{context.artifact.version} (cpu, #{context.artifact.target}), 0.0 MB\n"

    assert Consumer.installed(context.dir) == context.files

    requests = length(HttpServer.requests(context.server))
    {output, 0} = compile(context)
    refute output =~ "native library"
    assert length(HttpServer.requests(context.server)) == requests

    # A file of another size is noticed by every compile.
    File.rm!(Path.join(context.dir, "package/priv/libmlx.so"))
    assert {_output, 0} = compile(context)
    assert Consumer.installed(context.dir) == context.files
    assert HttpServer.count(context.server, context.artifact.asset) == 1
  end

  test "a refusal fails the compile, installs nothing, and heals", context do
    HttpServer.serve(context.server, %{
      (good = release(context))
      | context.artifact.asset => "not what was signed"
    })

    {output, status} = compile(context)
    assert status != 0

    assert output =~
             "error: could not accept #{context.artifact.asset}: its checksum is not the published one\n"

    assert Consumer.installed(context.dir) == %{}

    HttpServer.serve(context.server, good)
    assert {_output, 0} = compile(context)
    assert Consumer.installed(context.dir) == context.files
  end

  defp release(context) do
    ReleaseFactory.publish(
      context.artifact,
      ReleaseFactory.archive(context.artifact, context.files),
      context.key
    )
  end

  test "a variant that does not exist is refused with the list of those that do", context do
    environment = Map.put(context.environment, "EMILY_VARIANT", "warp")
    {output, status} = Consumer.mix(context.dir, ["compile"], environment)
    assert status != 0

    assert output =~
             "error: could not choose Emily's native library: there is no variant warp for #{context.artifact.target}\n"

    assert output =~ "linux-x86_64: cpu, cuda12, cuda13\n"
  end

  test "without a network the cache does, with a warning; without a cache it is an error that heals",
       context do
    {_output, 0} = compile(context)
    HttpServer.stop(context.server)
    Consumer.uninstall(context.dir)

    {output, 0} = compile(context)

    assert output =~
             "warning: #{context.artifact.asset} comes from the cache, where it was verified: "

    assert Consumer.installed(context.dir) == context.files

    Consumer.uninstall(context.dir)
    File.rm_rf!(context.environment["EMILY_CACHE"])
    {output, status} = compile(context)
    assert status != 0
    assert output =~ "error: could not download a file of Emily's release: connection refused\n"
    assert Consumer.installed(context.dir) == %{}

    back = HttpServer.start(release(context))
    assert {_output, 0} = compile(%{context | environment: environment(back, context.dir)})
    assert Consumer.installed(context.dir) == context.files
  end

  test "mix compile.emily --force finds what was published anew, and fails by its exit status",
       context do
    {_output, 0} = compile(context)
    files = ReleaseFactory.files("anew")
    republish(context, files)

    {_output, 0} = compile(context)
    assert Consumer.installed(context.dir) == context.files
    {_output, 0} = Consumer.mix(context.dir, ["compile.emily"], context.environment)
    assert Consumer.installed(context.dir) == context.files
    {_output, 0} = Consumer.mix(context.dir, ["compile.emily", "--force"], context.environment)
    assert Consumer.installed(context.dir) == files

    HttpServer.serve(context.server, %{})
    {output, 1} = Consumer.mix(context.dir, ["compile.emily", "--force"], context.environment)

    assert output =~
             "error: could not download Emily's native library: it is not published at this address\n"

    assert Consumer.installed(context.dir) == files
  end

  test "mix deps.compile emily --force mends damage that keeps a file's size", context do
    {_output, 0} = compile(context)
    library = Path.join(context.dir, "package/priv/libmlx.so")
    bytes = File.read!(library)
    File.write!(library, String.duplicate("x", byte_size(bytes)))

    {_output, 0} =
      Consumer.mix(context.dir, ["deps.compile", "emily", "--force"], context.environment)

    assert File.read!(library) == bytes
  end

  test "two at once on one cache download once", context do
    test = self()
    second_dir = Emily.Test.InstallCase.temporary_folder()
    copy(context.template, second_dir)

    # The archive is served when the second compile is known to wait.
    hold = fn _request ->
      send(test, {:asked, self()})

      receive do
        :go -> :ok
      end
    end

    HttpServer.serve(context.server, release(context), %{
      context.artifact.asset => [{:call, hold}]
    })

    first = Consumer.start(context.dir, ["compile"], context.environment)
    assert_receive {:asked, request}, 120_000
    second = Consumer.start(second_dir, ["compile"], context.environment)
    assert_receive {^second, {:data, {:eol, "Waiting for process " <> _}}}, 120_000
    send(request, :go)

    assert_receive {^first, {:exit_status, 0}}, 120_000
    assert_receive {^second, {:exit_status, 0}}, 120_000
    assert HttpServer.count(context.server, context.artifact.asset) == 1
    assert Consumer.installed(context.dir) == context.files
    assert Consumer.installed(second_dir) == context.files
  end

  test "the package depends on what Hex has, and bare on nothing", context do
    code = """
    Mix.start()
    Code.require_file("mix.exs")
    IO.inspect(Mix.Project.config()[:deps])
    """

    deps = fn environment ->
      {output, 0} =
        System.cmd("elixir", ["-e", code],
          cd: Path.join(context.dir, "package"),
          env: Map.to_list(environment)
        )

      output
    end

    # The folder is for checkouts: what ships knows nothing of it.
    folder = %{"EMILY_DEPS_PATH" => Path.join(context.dir, "no/such/folder")}
    hex = ~s([nx: "~> 0.13", telemetry: "~> 1.3"]\n)
    assert deps.(Map.put(folder, "EMILY_BARE", nil)) == hex
    assert deps.(Map.put(folder, "EMILY_BARE", "1")) == "[]\n"
  end

  describe "a dependency with native sources is a checkout, in which" do
    setup context do
      sources = Path.join(context.dir, "package/native/nif")
      File.mkdir_p!(sources)
      File.write!(Path.join(sources, "Cargo.toml"), "")
      bin = Path.join(context.dir, "bin")
      File.mkdir_p!(bin)

      # All that Mix runs, and no Cargo.
      for name <- ~w(elixir mix erl sh env git id dirname basename readlink sed getconf),
          found = System.find_executable(name),
          do: File.ln_s(found, Path.join(bin, name))

      %{bin: bin, environment: Map.put(context.environment, "PATH", bin)}
    end

    # Stands in for Cargo: says where it is called and how, and does this.
    defp cargo(context, script) do
      path = Path.join(context.bin, "cargo")
      File.write!(path, ~s(#!/bin/sh\necho "cargo $* in $PWD"\n) <> script)
      File.chmod!(path, 0o755)
    end

    test "Cargo builds the library, once, and again if it is forced to", context do
      library = ReleaseFactory.artifact(nil, Host.target()).library
      cargo(context, "echo built > priv/#{library}\n")
      ran = "cargo xtask nif in #{Path.join(context.dir, "package")}\n"

      {output, 0} = compile(context)
      assert output =~ "Building Emily's native library: cargo xtask nif\n" <> ran
      assert Consumer.installed(context.dir) == %{library => "built\n"}

      {output, 0} = compile(context)
      refute output =~ "native library"

      force = ["compile.emily", "--force"]
      {output, 0} = Consumer.mix(context.dir, force, context.environment)
      assert output =~ ran
      assert HttpServer.requests(context.server) == []
    end

    test "a machine without Cargo gets a warning, and an error if it is forced", context do
      {output, 0} = compile(context)

      message = """
      Emily's native library is not built: this machine has no Cargo

        path      #{Path.join(context.dir, "package/native/nif")}
        expected  cargo in PATH, of Rust 1.91 or newer

      Install Rust, from https://rustup.rs or your distribution, and run `mix compile`.
      """

      assert output =~ "warning: " <> message
      assert Consumer.installed(context.dir) == %{}

      force = ["compile.emily", "--force"]
      assert {output, 1} = Consumer.mix(context.dir, force, context.environment)
      assert output =~ "error: " <> message
      assert HttpServer.requests(context.server) == []
    end

    test "what keeps Cargo from building fails the compile, after what it said", context do
      cargo(context, "echo 'error: this machine is not ready'\nexit 3\n")
      {output, status} = compile(context)
      assert status != 0

      assert output =~ """
             error: this machine is not ready
             error: Emily's native library did not build

               path     #{Path.join(context.dir, "package")}
               command  cargo xtask nif
               status   3

             Do what the lines above name, such as `cargo xtask setup` where a tool is missing, and run `mix compile`.
             """

      assert Consumer.installed(context.dir) == %{}
    end
  end
end
