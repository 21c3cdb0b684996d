defmodule Mix.Tasks.Emily.FetchTest do
  # The two tasks about downloads, in a project that depends on Emily.
  use ExUnit.Case, async: true

  alias Emily.Artifact.{Host, LocalFile}
  alias Emily.Test.{Consumer, HttpServer, InstallCase, ReleaseFactory}

  @moduletag skip: if(to_string(Host.target()) =~ "linux", do: nil, else: "needs Linux")
  @moduletag timeout: 300_000

  setup_all do
    dir = Path.join(System.tmp_dir!(), "emily-fetching-#{System.pid()}")
    on_exit(fn -> File.rm_rf!(dir) end)
    key = ReleaseFactory.key()
    Consumer.make(dir, key.text)
    {_output, status} = Consumer.mix(dir, ["deps.compile"], %{"EMILY_OFFLINE" => "1"})
    assert status != 0
    %{project: dir, key: key}
  end

  setup context do
    here = ReleaseFactory.artifact(nil, Host.target())
    mac = ReleaseFactory.artifact("aot", "macos-arm64")
    files = ReleaseFactory.files()

    mac_files = %{"libemily.dylib" => "of a Mac", "libmlx.dylib" => "MLX", "LICENSE" => "MIT"}

    release =
      Map.merge(
        ReleaseFactory.publish(here, ReleaseFactory.archive(here, files), context.key),
        ReleaseFactory.publish(mac, ReleaseFactory.archive(mac, mac_files), context.key)
      )

    dir = InstallCase.temporary_folder()

    for name <- ["package", "consumer"],
        do: {_output, 0} = System.cmd("cp", ["-a", Path.join(context.project, name), dir])

    server = HttpServer.start(release)
    environment = %{"EMILY_CACHE" => Path.join(dir, "cache"), "EMILY_RELEASE_URL" => server.url}

    %{
      dir: dir,
      server: server,
      environment: environment,
      here: here,
      mac: mac,
      release: release,
      files: files
    }
  end

  defp mix(context, arguments, environment \\ %{}) do
    # What Mix says of a dependency that is not installed yet is not the tasks'.
    Consumer.run(context.dir, arguments, Map.merge(context.environment, Map.new(environment)))
  end

  test "an archive is fetched for here, and again only if it was published anew", context do
    cache = "#{context.environment["EMILY_CACHE"]}/v1"
    fetched = "Fetched #{context.here.asset}, 0.0 MB, for glibc 2.35 or newer, into #{cache}\n"

    assert mix(context, ["emily.fetch"]) ==
             {"Downloading #{context.server.url}#{context.here.asset}\n" <> fetched, 0}

    assert mix(context, ["emily.fetch"]) == {fetched, 0}
    assert HttpServer.count(context.server, context.here.asset) == 1
    assert Consumer.installed(context.dir) == %{}
  end

  test "a folder of archives installs where there is no network", context do
    shelf = Path.join(context.dir, "vendor/emily nifs")

    {output, 0} =
      mix(context, [
        "emily.fetch",
        "--target",
        Host.target(),
        "--target",
        "macos-arm64",
        "--into",
        shelf
      ])

    address = LocalFile.address(shelf)
    assert output =~ "into #{shelf}\nInstall from there with EMILY_RELEASE_URL=#{address}\n"
    assert Enum.sort(File.ls!(shelf)) == context.release |> Map.keys() |> Enum.sort()
    for {name, bytes} <- context.release, do: assert(File.read!(Path.join(shelf, name)) == bytes)

    HttpServer.stop(context.server)
    File.rm_rf!(context.environment["EMILY_CACHE"])

    {_output, 0} =
      Consumer.mix(
        context.dir,
        ["compile"],
        Map.merge(context.environment, %{"EMILY_RELEASE_URL" => address, "EMILY_OFFLINE" => "1"})
      )

    assert Consumer.installed(context.dir) == context.files
  end

  test "what cannot be had is said for each, and the rest is fetched", context do
    {output, 1} =
      mix(context, ["emily.fetch", "--all", "--target", Host.target(), "--target", "macos-arm64"])

    assert output =~ "Fetched #{context.here.asset}"
    assert output =~ "Fetched #{context.mac.asset}"

    assert output =~
             "error: could not download Emily's native library: it is not published at this address\n"

    assert output =~ "  variant   jit\n"
    refute output =~ "mix compile`"
  end

  test "mistakes are answered with what was expected", context do
    for {arguments, said} <- [
          {["--taget", "linux-x86_64"],
           "expected --variant V, --target T, --all and --into DIR, got: --taget"},
          {["cuda12"], "expected --variant V, --target T, --all and --into DIR, got: cuda12"},
          {["--into"], "expected --variant V, --target T, --all and --into DIR, got: --into"},
          {["--all", "--variant", "cpu"], "expected --variant or --all, got: both"},
          {["--target", "windows"], "there is none for the target windows\n"},
          {["--target", "windows", "--all"], "there is none for the target windows\n"},
          {["--variant", "warp"], "there is no variant warp for #{Host.target()}\n"},
          {["--into", "mix.exs/x"], "error: could not write the fetched files: "}
        ] do
      {output, status} = mix(context, ["emily.fetch" | arguments])
      assert {status, output =~ said} == {1, true}, "#{inspect(arguments)}: #{output}"
    end
  end

  test "settings of the wrong form are named, and help is given", context do
    for task <- ["emily.fetch", "emily.clean", "compile.emily"] do
      {output, 1} = mix(context, [task], %{"EMILY_OFFLINE" => "yes"})

      assert output ==
               ~s(** (Mix\) expected EMILY_OFFLINE to be 1, true, 0 or false, got: "yes"\n)
    end

    for task <- ["emily.fetch", "emily.clean"] do
      {output, 0} = mix(context, [task, "--help"])
      assert output =~ "## Options"
    end
  end

  test "the cache is listed and cleaned", context do
    cache = context.environment["EMILY_CACHE"]
    name = fn artifact -> String.replace_suffix(artifact.asset, ".tar.gz", "") end
    assert mix(context, ["emily.clean"]) == {"#{cache}\nNothing is kept there.\n", 0}
    {_output, 0} = mix(context, ["emily.fetch"])

    old = "emily-nif-0.1.0-cpu-linux-x86_64"
    File.write!(Path.join(cache, "v1/#{old}.tar.gz"), String.duplicate("x", 2_500_000))
    File.write!(Path.join(cache, "v1/tmp/#{old}.tar.gz.here.0a"), "x")
    File.write!(Path.join(cache, "v1/notes.txt"), "mine")

    {output, 0} = mix(context, ["emily.clean"])

    assert output == """
           #{cache}
             #{String.pad_trailing(old, String.length(name.(context.here)))}      2.5 MB  another version
             #{name.(context.here)}      0.0 MB  this project's version
             #{old}      0.0 MB  interrupted
           Not Emily's, and left alone:
             #{cache}/v1/notes.txt
           2.5 MB in all. Nothing was removed: `--old` removes other versions, `--leftovers` removes what was interrupted, `--all` removes everything.
           """

    {output, 0} = mix(context, ["emily.clean", "--old", "--dry-run"])
    assert output =~ "2.5 MB would be removed from #{cache}.\n"
    {output, 0} = mix(context, ["emily.clean", "--old"])
    assert output =~ "2.5 MB removed from #{cache}.\n"

    assert mix(context, ["emily.clean", "--old"]) ==
             {"Nothing but version #{context.here.version} is kept in #{cache}.\n", 0}

    assert mix(context, ["emily.clean", "--leftovers"]) ==
             {"Nothing was left behind in #{cache}.\n", 0}

    {output, 0} = mix(context, ["emily.clean", "--all"])

    assert output =~ "removed from #{cache}.\nNot" or
             output =~ "Not Emily's, and left alone:\n  #{cache}/v1/notes.txt\n"

    assert File.ls!(cache) == ["v1"]
    assert File.ls!(Path.join(cache, "v1")) == ["notes.txt"]

    {output, 1} = mix(context, ["emily.clean", "--al"])
    assert output =~ "expected --old, --leftovers, --all or --dry-run, got: --al"
    {output, 1} = mix(context, ["emily.clean", "--all", "--old"])
    assert output =~ "expected one of --old, --leftovers and --all, got: --old --all"
  end
end
