defmodule Emily.Test.Consumer do
  @moduledoc """
  A Mix project that depends on a copy of this package, made of the files that the package ships.
  """

  @doc """
  Makes `package/` and `consumer/` in a folder; the copy has a release key only if one is given.
  """
  def make(dir, key_text \\ nil) do
    package = Path.join(dir, "package")

    # The keys of releases are not the tests'.
    for name <- Mix.Project.config()[:package][:files], name != "release/keys.json" do
      target = Path.join(package, name)
      File.mkdir_p!(Path.dirname(target))
      File.cp_r!(name, target)
    end

    if key_text, do: give_key(dir, key_text)
    consumer = Path.join(dir, "consumer")
    File.mkdir_p!(consumer)

    File.write!(Path.join(consumer, "mix.exs"), """
    defmodule Consumer.MixProject do
      use Mix.Project
      def project, do: [app: :consumer, version: "0.1.0", deps: [{:emily, path: "../package"}]]
    end
    """)

    dir
  end

  @doc "Gives release keys to the copy of the package."
  def give_key(dir, key_text),
    do: File.write!(Path.join(dir, "package/release/keys.json"), key_text)

  @doc "Runs Mix in the consumer; returns what it printed and its exit status."
  def mix(dir, arguments, environment) do
    System.cmd("mix", arguments,
      cd: Path.join(dir, "consumer"),
      env: environment(environment),
      stderr_to_stdout: true
    )
  end

  @doc """
  Runs a task of the dependency, which is compiled and need not be installed; returns what the task
  printed and its exit status.
  """
  def run(dir, [task | arguments], environment) do
    ebin = Path.join(dir, "consumer/_build/dev/lib/emily/ebin")

    System.cmd("elixir", ["-pa", ebin, "-S", "mix", task | arguments],
      cd: Path.join(dir, "consumer"),
      env: environment(environment),
      stderr_to_stdout: true
    )
  end

  @doc "Starts Mix in the consumer as a port, whose lines come as messages."
  def start(dir, arguments, environment) do
    variables =
      for {name, value} <- environment(environment) do
        {String.to_charlist(name), if(value, do: String.to_charlist(value), else: false)}
      end

    Port.open({:spawn_executable, System.find_executable("mix")}, [
      :binary,
      :exit_status,
      :stderr_to_stdout,
      line: 4_096,
      args: arguments,
      cd: Path.join(dir, "consumer"),
      env: variables
    ])
  end

  # Nothing of this test run's own settings gets through.
  defp environment(environment) do
    quiet = ~w(MIX_BUILD_PATH MIX_BUILD_ROOT MIX_DEPS_PATH MIX_EXS MIX_TARGET EMILY_VARIANT
               EMILY_OFFLINE EMILY_DEPS_PATH HTTP_PROXY http_proxy HTTPS_PROXY https_proxy)

    Map.new(quiet, &{&1, nil})
    |> Map.merge(%{"MIX_ENV" => "dev", "EMILY_BARE" => "1"})
    |> Map.merge(Map.new(environment))
    |> Map.to_list()
  end

  @doc "The installed files of the copy, by name, without the manifest."
  def installed(dir) do
    priv = Path.join(dir, "package/priv")

    for name <- File.ls!(priv), name not in ["manifest.json", ".gitkeep"], into: %{} do
      {name, File.read!(Path.join(priv, name))}
    end
  end

  @doc "Removes what is installed."
  def uninstall(dir) do
    for name <- ["manifest.json" | Map.keys(installed(dir))] do
      File.rm(Path.join([dir, "package/priv", name]))
    end
  end
end
