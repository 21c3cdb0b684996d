defmodule Emily.DeploymentTest do
  # `guides/deployment.md`, carried out with the library that is built here: fetched into a project,
  # compiled without a network, made part of a release, copied alone to another folder, and called.
  use ExUnit.Case, async: true

  alias Emily.Artifact.{Host, LocalFile}
  alias Emily.Test.{Consumer, Dockerfile, InstallCase, ReleaseFactory}

  @guide "guides/deployment.md"
  @target "linux-x86_64"

  @moduletag :native
  # A release starts a VM of its own, which has no detector.
  @moduletag :without_detector
  @moduletag skip: if(Host.target() != @target, do: "the guide's image is for #{@target}")
  @moduletag timeout: 600_000

  setup do
    dir = InstallCase.temporary_folder()
    key = ReleaseFactory.key()
    Consumer.make(dir, key.text)
    artifact = ReleaseFactory.artifact("cpu", @target)
    priv = Application.app_dir(:emily, "priv")
    names = for name <- artifact.files, File.regular?(Path.join(priv, name)), do: name
    files = Map.new(names -- ["manifest.json"], &{&1, File.read!(Path.join(priv, &1))})
    published = Path.join(dir, "published")
    File.mkdir_p!(published)

    for {name, bytes} <-
          ReleaseFactory.publish(artifact, ReleaseFactory.archive(artifact, files), key),
        do: File.write!(Path.join(published, name), bytes)

    %{dir: dir, project: project(dir), published: LocalFile.address(published), files: files}
  end

  # The guide's application, beside the copy of the package in whatever folder it is built.
  defp project(dir) do
    project = Path.join(dir, "consumer")
    for folder <- ["config", "lib"], do: File.mkdir_p!(Path.join(project, folder))
    File.write!(Path.join(project, "config/config.exs"), "import Config\n")

    File.write!(
      Path.join(project, "lib/my_app.ex"),
      "defmodule MyApp, do: def(name, do: :my_app)\n"
    )

    File.write!(Path.join(project, "mix.lock"), "%{}\n")

    File.write!(Path.join(project, "mix.exs"), """
    defmodule MyApp.MixProject do
      use Mix.Project

      def project do
        [app: :my_app, version: "0.1.0", deps: [{:emily, path: #{inspect(Path.join(dir, "package"))}}]]
      end
    end
    """)

    project
  end

  test "the guide's image has all that the application needs", context do
    [_text, command | _more] = String.split(File.read!(@guide), "$ mix emily.fetch ")
    arguments = command |> String.split("\n") |> hd() |> String.split(" ")
    assert arguments == ["--target", @target, "--into", "vendor/emily"]
    environment = %{"EMILY_CACHE" => Path.join(context.dir, "cache")}

    # The tasks are there once Emily is compiled, installed or not.
    {_output, _status} =
      Consumer.mix(context.dir, ["deps.compile"], Map.put(environment, "EMILY_OFFLINE", "1"))

    online = Map.put(environment, "EMILY_RELEASE_URL", context.published)
    assert {output, 0} = Consumer.run(context.dir, ["emily.fetch" | arguments], online)
    assert output =~ "Install from there with EMILY_RELEASE_URL=file://"
    File.rm_rf!(Path.join(context.dir, "published"))
    File.rm_rf!(Path.join(context.dir, "cache"))

    home = Path.join(context.dir, "home")
    File.mkdir_p!(home)
    here = "ENV XDG_CACHE_HOME=#{home}\nENV EMILY_BARE=1\n"
    text = @guide |> Dockerfile.of_guide() |> String.replace("ENV MIX_ENV", here <> "ENV MIX_ENV")
    image = Dockerfile.build(text, context.project, Path.join(context.dir, "image"))

    # What the first stage was made with is gone, and so is the cache.
    for folder <- ["package", "consumer", "home", "image/build"],
        do: File.rm_rf!(Path.join(context.dir, folder))

    [priv] = Path.wildcard(Path.join(image.folder, "lib/emily-*/priv"))

    for {name, bytes} <- context.files,
        do: assert(File.read!(Path.join(priv, name)) == bytes, "#{name} is not as released")

    assert image.command == ["bin/my_app", "start"]
    assert evaluated(image) == "{:my_app, <<0, 0, 192, 64>>}\n"
  end

  defp evaluated(image) do
    code = """
    {:ok, _started} = Application.ensure_all_started(:emily)
    sum = Emily.op(:sum, [Emily.op(:iota, [], type: {:f, 32}, shape: [4])])
    IO.inspect({MyApp.name(), Emily.to_binary(sum)})
    """

    program = Path.join(image.folder, hd(image.command))
    {output, 0} = System.cmd(program, ["eval", code], env: [{"EMILY_BARE", nil}])
    output
  end
end
